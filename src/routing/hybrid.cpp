// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>
#include <utility>

#include "metro/expert_cost.hpp"
#include "routing/policies.hpp"
#include "routing/replica_lists.hpp"
#include "routing/time_balancer.hpp"

namespace metro::routing {
namespace {

/// Least modelled time of the slowest GPU: replicas and splits by what an expert's tokens cost.
class HybridPolicy final : public RoutingPolicy {
 public:
  HybridPolicy(const LayerPlacement& placement, std::shared_ptr<const ExpertCost> cost)
      : balancer_(placement, ReplicaIndex(placement), std::move(cost)),
        lists_(placement),
        position_(lists_.num_experts() + 1) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    const std::span<std::int64_t> left = balancer_.solve(topk.ids);
    std::ranges::fill(position_, 0U);
    for (std::size_t i = 0; i < topk.ids.size(); ++i) {
      const ReplicaLists::List list = lists_.of(topk.ids[i]);
      std::uint32_t& position = position_[table_index(topk.ids[i], lists_.num_experts())];
      std::int32_t slot = lists_.slot(list, position);
      if (slot >= 0) {
        while (left[static_cast<std::size_t>(slot)] == 0) slot = lists_.slot(list, ++position);
        --left[static_cast<std::size_t>(slot)];
      }
      replica_ids[i] = slot;
    }
  }

 private:
  TimeBalancer balancer_;
  ReplicaLists lists_;
  std::vector<std::uint32_t> position_;  // [experts + 1] of the replica that serves now
};

}  // namespace

PolicyPtr make_hybrid(const LayerPlacement& placement, const RouteOptions& options) {
  return std::make_unique<HybridPolicy>(
      placement, options.cost == nullptr ? ExpertCost::standard() : options.cost);
}

}  // namespace metro::routing
