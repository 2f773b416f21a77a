// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

namespace metro::cli {

/// What `--calibration` names: a file, or for "auto" the one that came with metro for the GPU: in
/// METRO_CALIBRATION_DIR, in share/metro/calibration of the installation, or in data/calibration of
/// the source tree that the program was built in. Throws Error{kInput} where there is none.
std::filesystem::path find_calibration(const std::filesystem::path& option, std::string_view gpu);

}  // namespace metro::cli
