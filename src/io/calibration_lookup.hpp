// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <span>
#include <string_view>

namespace metro::io {

/// The calibration of a known GPU, such as "h100_sxm.json", in the first of `folders` that has it.
/// Throws Error{kInput} where none has; its message calls what asked for it `name`.
std::filesystem::path find_calibration(std::span<const std::filesystem::path> folders,
                                       std::string_view gpu, std::string_view name);

}  // namespace metro::io
