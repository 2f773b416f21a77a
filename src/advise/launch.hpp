// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "metro/advise.hpp"

namespace metro {

/// How to start the serving's engine as a chosen advice says, or as the best that it can run does:
/// of those rows the one that `least_change` takes. None where no engine is named, or one that
/// nobody wrote this for.
std::optional<EngineLaunch> launch_of(const SimulationConfig& serving, const Advice& advice,
                                      double margin);

}  // namespace metro
