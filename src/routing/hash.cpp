// SPDX-License-Identifier: Apache-2.0
#include "routing/policies.hpp"
#include "routing/replica_lists.hpp"

namespace metro::routing {
namespace {

class HashPolicy final : public RoutingPolicy {
 public:
  explicit HashPolicy(const LayerPlacement& placement) : lists_(placement) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    std::size_t i = 0;
    for (std::uint32_t row = 0; row < static_cast<std::uint32_t>(topk.num_tokens); ++row) {
      const std::uint32_t hash = token_hash(row);
      for (int k = 0; k < topk.topk; ++k, ++i) {
        const ReplicaLists::List list = lists_.of(topk.ids[i]);
        replica_ids[i] = lists_.slot(list, hash % list.count);
      }
    }
  }

 private:
  ReplicaLists lists_;
};

}  // namespace

PolicyPtr make_hash(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  return std::make_unique<HashPolicy>(placement);
}

}  // namespace metro::routing
