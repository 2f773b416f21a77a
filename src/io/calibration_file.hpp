// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metro/calibration.hpp"

namespace metro::io {

/// io::read_calibration over text in memory; `file` names it in messages.
Calibration parse_calibration(std::string_view text, std::string_view file);

}  // namespace metro::io
