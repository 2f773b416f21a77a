// SPDX-License-Identifier: Apache-2.0
// The policy that recipe_test adds to the program: each expert's last replica, always.
#include "core/replica_index.hpp"
#include "routing/policies.hpp"
#include "routing/slot_map.hpp"

namespace metro::routing {

PolicyPtr make_last(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  const ReplicaIndex index(placement);
  std::vector<std::int32_t> slots;
  for (int e = 0; e < index.num_experts(); ++e) slots.push_back(index.replicas(e).back());
  return std::make_unique<FixedPolicy>(slots);
}

}  // namespace metro::routing
