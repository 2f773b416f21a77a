// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "routing/policies.hpp"
#include "routing/replica_lists.hpp"

namespace metro::routing {
namespace {

class RoundRobinPolicy final : public RoutingPolicy {
 public:
  explicit RoundRobinPolicy(const LayerPlacement& placement)
      : lists_(placement), num_gpus_(placement.num_gpus), seen_(lists_.num_experts() + 1) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    int rank = -1;
    std::size_t i = 0;
    for (int row = 0; row < topk.num_tokens; ++row) {
      const int row_rank = source_rank(row, topk.num_tokens, num_gpus_);
      if (row_rank != rank) {
        rank = row_rank;
        std::ranges::fill(seen_, 0U);
      }
      for (int k = 0; k < topk.topk; ++k, ++i) {
        const ReplicaLists::List list = lists_.of(topk.ids[i]);
        std::uint32_t& seen = seen_[table_index(topk.ids[i], lists_.num_experts())];
        replica_ids[i] =
            lists_.slot(list, (seen++ + static_cast<std::uint32_t>(rank)) % list.count);
      }
    }
  }

 private:
  ReplicaLists lists_;
  int num_gpus_;
  std::vector<std::uint32_t> seen_;  // [experts + 1] tokens of the expert so far in this rank
};

}  // namespace

PolicyPtr make_round_robin(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  return std::make_unique<RoundRobinPolicy>(placement);
}

}  // namespace metro::routing
