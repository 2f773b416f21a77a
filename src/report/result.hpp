// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace metro::report {

/// Where a figure comes from.
enum class Evidence {
  kSimulated,
  kEmulated,  ///< parts were measured, one after the other, and put together
  kMeasured
};

std::string_view to_string(Evidence evidence);

/// The envelope that every result starts with: format, version, command, evidence, seed, and the
/// inputs with their SHA-256. A command's own fields are added beside these.
/// Throws Error{kInput} for an input that cannot be read.
nlohmann::ordered_json make_result(std::string_view command, Evidence evidence, std::uint64_t seed,
                                   const std::vector<std::filesystem::path>& inputs);

/// A trace's two files, the `.npy` and the `.json` beside it.
std::vector<std::filesystem::path> trace_files(const std::filesystem::path& npy);

/// One line of JSON. Bytes that are not UTF-8 (in file names) become U+FFFD.
std::string to_text(const nlohmann::ordered_json& result);

}  // namespace metro::report
