// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/expert_cost.hpp"
#include "metro/topk.hpp"
#include "routing/activation_solver.hpp"
#include "routing/slot_map.hpp"
#include "routing/time_bound.hpp"

namespace metro::routing {

/// time_bound_us for many batches of one layer.
class ModelledBound {
 public:
  ModelledBound(const LayerPlacement& placement, std::shared_ptr<const ExpertCost> cost);

  /// Microseconds. Never allocates.
  double of(TopkView topk) noexcept;

 private:
  ModelledBound(const ReplicaIndex& index, std::shared_ptr<const ExpertCost> cost);

  std::shared_ptr<const ExpertCost> cost_;
  TimeBound bound_;
  ActivationSolver solver_;
  ActiveFlags flags_;
  std::vector<std::int32_t> slots_;   // [experts]
  std::vector<std::int64_t> tokens_;  // [experts + 1]
};

}  // namespace metro::routing
