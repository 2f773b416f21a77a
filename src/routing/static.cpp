// SPDX-License-Identifier: Apache-2.0
#include "core/replica_index.hpp"
#include "routing/policies.hpp"

namespace metro::routing {
namespace {

class StaticPolicy final : public RoutingPolicy {
 public:
  StaticPolicy(const LayerPlacement& placement, const RouteOptions& options)
      : index_(placement), gpus_per_node_(placement.num_gpus / options.num_nodes) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    std::size_t i = 0;
    for (int row = 0; row < topk.num_tokens; ++row) {
      const int rank = source_rank(row, topk.num_tokens, index_.num_gpus());
      for (int k = 0; k < topk.topk; ++k, ++i) {
        const std::int32_t id = topk.ids[i];
        const bool is_expert = id >= 0 && id < index_.num_experts();
        replica_ids[i] = is_expert ? nearest(id, row, rank) : kMasked;
      }
    }
  }

 private:
  /// The replica on the rank's own GPU, else the lowest one on its node, else one by row and
  /// expert.
  [[nodiscard]] std::int32_t nearest(int expert, int row, int rank) const noexcept {
    const auto candidates = index_.candidates(expert);
    const Candidate* on_node = nullptr;
    for (const Candidate& candidate : candidates) {
      if (candidate.gpu == rank) return candidate.slot;
      if (on_node == nullptr && candidate.gpu / gpus_per_node_ == rank / gpus_per_node_) {
        on_node = &candidate;
      }
    }
    if (on_node != nullptr) return on_node->slot;
    const auto spread = static_cast<std::size_t>(row) + static_cast<std::size_t>(expert);
    return candidates[spread % candidates.size()].slot;
  }

  ReplicaIndex index_;
  int gpus_per_node_;
};

}  // namespace

PolicyPtr make_static(const LayerPlacement& placement, const RouteOptions& options) {
  return std::make_unique<StaticPolicy>(placement, options);
}

}  // namespace metro::routing
