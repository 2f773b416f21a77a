// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "metro/placement.hpp"

namespace metro {

/// What one routed batch asks of each GPU in one layer.
struct RoutingMetrics {
  std::vector<std::int32_t> activated_per_gpu;  ///< replicas that got a token
  std::vector<std::int64_t> tokens_per_gpu;     ///< (token, k) assignments
  int max_activated = 0;
  int activated_total = 0;
  std::int64_t max_tokens = 0;
};

/// Counts what `replica_ids` activates; ids of -1 count nowhere. Reuses its buffers between calls.
class MetricsCounter {
 public:
  explicit MetricsCounter(const LayerPlacement& placement);

  /// The reference stays valid until the next call. One thread at a time.
  const RoutingMetrics& count(std::span<const std::int32_t> replica_ids);

 private:
  std::vector<std::int32_t> replica_to_gpu_;
  std::vector<std::int64_t> tokens_per_replica_;
  RoutingMetrics metrics_;
};

}  // namespace metro
