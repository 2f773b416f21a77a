// SPDX-License-Identifier: Apache-2.0
#include "metro/metrics.hpp"

#include <algorithm>

namespace metro {

MetricsCounter::MetricsCounter(const LayerPlacement& placement) {
  placement.validate();
  replica_to_gpu_ = placement.replica_to_gpu;
  tokens_per_replica_.resize(replica_to_gpu_.size());
  metrics_.activated_per_gpu.resize(static_cast<std::size_t>(placement.num_gpus));
  metrics_.tokens_per_gpu.resize(static_cast<std::size_t>(placement.num_gpus));
}

const RoutingMetrics& MetricsCounter::count(std::span<const std::int32_t> replica_ids) {
  std::ranges::fill(tokens_per_replica_, 0);
  for (const std::int32_t slot : replica_ids) {
    if (slot >= 0) ++tokens_per_replica_[static_cast<std::size_t>(slot)];
  }
  std::ranges::fill(metrics_.activated_per_gpu, 0);
  std::ranges::fill(metrics_.tokens_per_gpu, 0);
  metrics_.activated_total = 0;
  for (std::size_t slot = 0; slot < tokens_per_replica_.size(); ++slot) {
    const auto gpu = static_cast<std::size_t>(replica_to_gpu_[slot]);
    const bool activated = tokens_per_replica_[slot] > 0;
    metrics_.activated_per_gpu[gpu] += activated ? 1 : 0;
    metrics_.tokens_per_gpu[gpu] += tokens_per_replica_[slot];
    metrics_.activated_total += activated ? 1 : 0;
  }
  metrics_.max_activated = std::ranges::max(metrics_.activated_per_gpu);
  metrics_.max_tokens = std::ranges::max(metrics_.tokens_per_gpu);
  return metrics_;
}

}  // namespace metro
