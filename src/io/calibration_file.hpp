// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metro/calibration.hpp"

namespace metro::io {

/// A file of a later version is refused; optional fields may come without a new one.
inline constexpr int kCalibrationVersion = 1;

/// io::read_calibration over text in memory; `file` names it in messages.
Calibration parse_calibration(std::string_view text, std::string_view file);

}  // namespace metro::io
