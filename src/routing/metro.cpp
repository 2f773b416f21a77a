// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <numeric>

#include "routing/greedy.hpp"
#include "routing/policies.hpp"

namespace metro::routing {

/// Experts with the least choice first: they are charged before those that can still avoid them.
PolicyPtr make_metro(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  const ReplicaIndex index(placement);
  std::vector<std::int32_t> order(static_cast<std::size_t>(index.num_experts()));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, {}, [&](std::int32_t e) { return index.candidates(e).size(); });
  return std::make_unique<GreedyPolicy>(index, order);
}

}  // namespace metro::routing
