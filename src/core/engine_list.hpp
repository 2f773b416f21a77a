// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "metro/calibration.hpp"

namespace metro {

/// Engines that were fitted: a record that io fills.
struct EngineList {
  std::vector<Calibration::Engine> engines;
  Calibration::Engine average;  ///< for an engine that nobody fitted; its name is ""
};

}  // namespace metro
