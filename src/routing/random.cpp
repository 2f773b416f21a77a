// SPDX-License-Identifier: Apache-2.0
#include "core/rng.hpp"
#include "routing/policies.hpp"
#include "routing/replica_lists.hpp"

namespace metro::routing {
namespace {

class RandomPolicy final : public RoutingPolicy {
 public:
  RandomPolicy(const LayerPlacement& placement, const RouteOptions& options)
      : lists_(placement),
        key_(mix64(mix64(options.seed) ^ static_cast<std::uint64_t>(options.layer))) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    std::size_t i = 0;
    for (std::uint64_t row = 0; row < static_cast<std::uint64_t>(topk.num_tokens); ++row) {
      for (std::uint64_t k = 0; k < static_cast<std::uint64_t>(topk.topk); ++k, ++i) {
        const ReplicaLists::List list = lists_.of(topk.ids[i]);
        const std::uint64_t bits = mix64(key_ ^ (row << 32 | k));
        replica_ids[i] = lists_.slot(list, scale_to(bits, list.count));
      }
    }
  }

 private:
  ReplicaLists lists_;
  std::uint64_t key_;  // of the seed and the layer
};

}  // namespace

PolicyPtr make_random(const LayerPlacement& placement, const RouteOptions& options) {
  return std::make_unique<RandomPolicy>(placement, options);
}

}  // namespace metro::routing
