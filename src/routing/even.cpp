// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "routing/policies.hpp"
#include "routing/replica_lists.hpp"

namespace metro::routing {
namespace {

class EvenPolicy final : public RoutingPolicy {
 public:
  explicit EvenPolicy(const LayerPlacement& placement)
      : lists_(placement), next_(lists_.num_experts() + 1) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    std::ranges::fill(next_, 0U);
    for (std::size_t i = 0; i < topk.ids.size(); ++i) {
      const ReplicaLists::List list = lists_.of(topk.ids[i]);
      std::uint32_t& next = next_[table_index(topk.ids[i], lists_.num_experts())];
      replica_ids[i] = lists_.slot(list, next);
      next = next + 1 == list.count ? 0 : next + 1;
    }
  }

 private:
  ReplicaLists lists_;
  std::vector<std::uint32_t> next_;  // [experts + 1] replica of the expert's next token
};

}  // namespace

PolicyPtr make_even(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  return std::make_unique<EvenPolicy>(placement);
}

}  // namespace metro::routing
