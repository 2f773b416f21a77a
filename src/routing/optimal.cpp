// SPDX-License-Identifier: Apache-2.0
#include "routing/activation_solver.hpp"
#include "routing/policies.hpp"
#include "routing/slot_map.hpp"

namespace metro::routing {
namespace {

class OptimalPolicy final : public RoutingPolicy {
 public:
  explicit OptimalPolicy(const ReplicaIndex& index)
      : solver_(index), flags_(index.num_experts()), map_(index.home()) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    solver_.solve(flags_.mark(topk.ids), map_.slots());
    map_.apply(topk, replica_ids);
  }

 private:
  ActivationSolver solver_;
  ActiveFlags flags_;
  SlotMap map_;
};

}  // namespace

PolicyPtr make_optimal(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  return std::make_unique<OptimalPolicy>(ReplicaIndex(placement));
}

}  // namespace metro::routing
