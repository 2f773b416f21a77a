// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "metro/expert_cost.hpp"
#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro {

/// Microseconds of one routed batch in one layer.
struct ModelledTime {
  std::vector<double> per_gpu_us;  ///< base + the sum of phi; two copies on one GPU count apart
  double slowest_us = 0;
};

/// Prices what `replica_ids` activate; ids of -1 cost nothing. Reuses its buffers between calls.
class TimeCounter {
 public:
  /// `cost` is not null. Throws as LayerPlacement::validate.
  TimeCounter(const LayerPlacement& placement, std::shared_ptr<const ExpertCost> cost);

  /// The reference stays valid until the next call. One thread at a time.
  const ModelledTime& count(std::span<const std::int32_t> replica_ids);

 private:
  std::shared_ptr<const ExpertCost> cost_;
  std::vector<std::int32_t> replica_to_gpu_;
  std::vector<std::int64_t> tokens_per_replica_;
  ModelledTime time_;
};

/// What the slowest GPU takes at least, however the batch is routed and split: at most
/// ModelledTime::slowest_us of every routing. Throws as LayerPlacement::validate.
double time_bound_us(const LayerPlacement& placement, const ExpertCost& cost, TopkView topk);

}  // namespace metro
