// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

namespace metro::cli {

/// Where the calibrations are that came with metro: METRO_CALIBRATION_DIR alone if it is set, or
/// share/metro/calibration of the installation and data/calibration of the source tree that the
/// program was built in.
std::vector<std::filesystem::path> calibration_folders();

}  // namespace metro::cli
