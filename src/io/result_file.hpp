// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

namespace metro::io {

/// A result that one of our commands printed with `--json`, its keys in their order. The envelope
/// is checked: format, version, command, evidence, seed and inputs; what a command adds is not.
/// Throws Error{kInput} that names what is wrong.
nlohmann::ordered_json read_result(const std::filesystem::path& path);

/// Over bytes in memory, for tests and fuzzing.
nlohmann::ordered_json parse_result(std::string_view text, std::string_view file);

}  // namespace metro::io
