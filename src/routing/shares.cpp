// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "routing/policies.hpp"
#include "routing/replica_lists.hpp"
#include "routing/share_thresholds.hpp"

namespace metro::routing {
namespace {

class SharesPolicy final : public RoutingPolicy {
 public:
  explicit SharesPolicy(const LayerPlacement& placement)
      : lists_(placement), thresholds_(share_thresholds(placement)) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    std::size_t i = 0;
    for (std::uint32_t row = 0; row < static_cast<std::uint32_t>(topk.num_tokens); ++row) {
      const std::uint32_t hash = token_hash(row);
      for (int k = 0; k < topk.topk; ++k, ++i) {
        const ReplicaLists::List list = lists_.of(topk.ids[i]);
        std::uint32_t position = 0;
        while (position + 1 < list.count && hash >= thresholds_[list.begin + position]) ++position;
        replica_ids[i] = lists_.slot(list, position);
      }
    }
  }

 private:
  ReplicaLists lists_;
  std::vector<std::uint64_t> thresholds_;
};

}  // namespace

std::vector<std::uint64_t> share_thresholds(const LayerPlacement& placement) {
  const ReplicaIndex index(placement);
  std::vector<std::uint64_t> thresholds;
  for (int e = 0; e < index.num_experts(); ++e) {
    const auto replicas = index.replicas(e);
    const auto share = [&](std::int32_t slot) {
      return placement.shares.empty() ? 1.0 : placement.shares[static_cast<std::size_t>(slot)];
    };
    double sum = 0;
    for (const std::int32_t slot : replicas) sum += share(slot);
    double cumulative = 0;
    for (const std::int32_t slot : replicas) {
      cumulative += share(slot);
      thresholds.push_back(static_cast<std::uint64_t>(std::llround(cumulative / sum * 0x1p32)));
    }
  }
  return thresholds;
}

PolicyPtr make_shares(const LayerPlacement& placement, const RouteOptions& /*options*/) {
  return std::make_unique<SharesPolicy>(placement);
}

}  // namespace metro::routing
