// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "routing/greedy.hpp"
#include "routing/policies.hpp"

namespace metro::routing {

/// Algorithm 1 of the paper lets experts race for locks; expert-id order makes it deterministic.
PolicyPtr make_metro_paper(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  const ReplicaIndex index(placement);
  std::vector<std::int32_t> order(static_cast<std::size_t>(index.num_experts()));
  std::iota(order.begin(), order.end(), 0);
  return std::make_unique<GreedyPolicy>(index, order);
}

}  // namespace metro::routing
