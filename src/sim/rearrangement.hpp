// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metro/placement.hpp"
#include "metro/placer.hpp"
#include "sim/routing_pool.hpp"

namespace metro::sim {

/// Replica slots that the busiest GPU has to fetch from others when `before` becomes `after`, over
/// `num_layers` layers that repeat those of the placements. A GPU keeps what it has in any slot.
double fetched_slots(const Placement& before, const Placement& after, int num_layers);

/// The same between the placements of two stretches of a pool's training tokens.
double typical_fetched_slots(const RoutingPool& pool, const PlacementRequest& request,
                             std::string_view algorithm, int num_layers);

}  // namespace metro::sim
