// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "metro/placer.hpp"

namespace metro {

/// Throws unless the counts are in range (Error{kUsage}) and every GPU can get the same number of
/// slots, all experts at least one (Error{kInfeasible}). What every algorithm needs.
void check_request(std::span<const double> load, const PlacementRequest& request);

/// DeepSeek's EPLB, slot for slot: hierarchical over groups and nodes when the nodes divide the
/// groups, else global. May put two replicas of an expert on one GPU, as the original does.
/// Leaves `home` to `solve_homes`.
LayerPlacement place_eplb(std::span<const double> load, const PlacementRequest& request);

/// Every expert has a home, at most ceil(E/G) per GPU; the other slots hold further copies of hot
/// experts, on other GPUs. A layer can then always be served as with EPLB off.
/// Groups and nodes are ignored.
LayerPlacement place_homed(std::span<const double> load, const PlacementRequest& request);

/// Slot p holds expert p mod E, whatever the load. Groups and nodes are ignored.
/// Leaves `home` to `solve_homes`.
LayerPlacement place_contiguous(std::span<const double> load, const PlacementRequest& request);

}  // namespace metro
