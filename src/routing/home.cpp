// SPDX-License-Identifier: Apache-2.0
#include "core/replica_index.hpp"
#include "routing/policies.hpp"
#include "routing/slot_map.hpp"

namespace metro::routing {

PolicyPtr make_home(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  return std::make_unique<FixedPolicy>(ReplicaIndex(placement).home());
}

}  // namespace metro::routing
