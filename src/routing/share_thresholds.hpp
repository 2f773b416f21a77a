// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "metro/placement.hpp"

namespace metro::routing {

/// Cumulative shares of each expert's replicas scaled to 2^32, replica lists one after another: a
/// token goes to the first replica whose threshold is above its hash. Every device compares
/// integers, so every device agrees.
std::vector<std::uint64_t> share_thresholds(const LayerPlacement& placement);

}  // namespace metro::routing
