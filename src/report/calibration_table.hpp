// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "metro/calibration.hpp"

namespace metro::report {

/// A calibration for people, with a line for each thing that was left out of the measurement.
std::string calibration_table(const Calibration& calibration,
                              const std::vector<std::string>& left_out);

}  // namespace metro::report
