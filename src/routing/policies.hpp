// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "metro/router.hpp"

/// The constructors that policy_table.cpp names; each is defined in the file of its policy.
namespace metro::routing {

using PolicyPtr = std::unique_ptr<RoutingPolicy>;
using MakePolicy = PolicyPtr(const LayerPlacement& placement, const RouteOptions& options);

MakePolicy make_even;
MakePolicy make_hash;
MakePolicy make_round_robin;
MakePolicy make_random;
MakePolicy make_static;
MakePolicy make_single;
MakePolicy make_home;
MakePolicy make_shares;
MakePolicy make_metro_paper;
MakePolicy make_metro;
MakePolicy make_optimal;
MakePolicy make_hybrid;

}  // namespace metro::routing
