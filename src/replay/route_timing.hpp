// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "metro/router.hpp"
#include "metro/topk.hpp"

namespace metro {

/// A router in a race, and what it took.
struct Contender {
  std::string name;
  std::unique_ptr<RoutingPolicy> router;
  double median_ns = 0;  ///< of one call, from top-k ids to replica ids
};

/// Times each contender on the same batches, and sets `median_ns`.
///
/// Each round shuffles the contenders and, for each, the batches, and times every call on its own:
/// a drift of the clock speed hits all alike, and no router meets its batches in a learnt order.
/// The first round warms up and does not count.
void time_routers(std::vector<Contender>& contenders, const std::vector<TopkBatch>& batches,
                  int rounds, std::uint64_t seed);

}  // namespace metro
