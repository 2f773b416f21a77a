// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "metro/router.hpp"

/// The constructors that router.cpp's table names; each is defined in the file of its policy.
namespace metro::routing {

using PolicyPtr = std::unique_ptr<RoutingPolicy>;

PolicyPtr make_even(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_hash(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_round_robin(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_random(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_static(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_single(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_home(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_shares(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_metro_paper(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_metro(const LayerPlacement& placement, const RouteOptions& options);
PolicyPtr make_optimal(const LayerPlacement& placement, const RouteOptions& options);

}  // namespace metro::routing
