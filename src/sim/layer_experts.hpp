// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "metro/cost.hpp"
#include "metro/placement.hpp"
#include "metro/router.hpp"

namespace metro::sim {

/// What the routed experts of one layer took.
struct LayerTime {
  double us = 0;             ///< of the slowest GPU
  double max_activated = 0;  ///< replicas of the busiest GPU, each of 1/s of an expert worth 1/s
};

/// One GPU's part of a layer.
struct GpuWork {
  double us = 0;
  std::int32_t activated = 0;
  std::int64_t tokens = 0;
};

/// Routes one MoE layer's batches under one policy and times each GPU's experts.
///
/// One thread at a time. `cost` must outlive it.
class LayerExperts {
 public:
  /// Experts on GPUs, or on groups of `shards` of them. Slots of a GPU must be contiguous, as
  /// placers make them.
  LayerExperts(const LayerPlacement& placement, std::string_view policy,
               const RouteOptions& options, const CostModel& cost, int shards);
  /// Experts sharded over all GPUs (moe-TP): nothing to route.
  LayerExperts(int num_experts, int num_gpus, const CostModel& cost);

  LayerTime route(TopkView batch);

  /// Of the last batch, by expert GPU; moe-TP: one entry that stands for all.
  [[nodiscard]] std::span<const GpuWork> gpus() const noexcept { return gpus_; }

 private:
  LayerTime time_gpus();

  const CostModel* cost_;
  double shards_ = 1;
  std::unique_ptr<Router> router_;  // null: moe-TP
  int num_gpus_;
  std::vector<std::size_t> slot_begin_;    // [GPUs + 1]
  std::vector<std::int32_t> slot_tokens_;  // [slots + 1], of moe-TP [experts + 1]; the last: masked
  std::vector<std::int32_t> replica_ids_;
  std::vector<GpuWork> gpus_;
};

}  // namespace metro::sim
