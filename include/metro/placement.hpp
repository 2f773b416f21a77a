// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace metro {

/// Largest counts that readers and builders accept; far above any model, so that a damaged file
/// cannot ask for a huge allocation.
inline constexpr int kMaxExperts = 65536;
inline constexpr int kMaxGpus = 65536;
inline constexpr int kMaxReplicas = 1 << 20;

/// Where the replicas of one MoE layer's experts live.
///
/// A replica is a physical slot, numbered from 0 over all GPUs; slots per GPU may differ and a GPU
/// may have none. An aggregate without invariants of its own: `validate` checks it, and every
/// class that is built from one calls that first.
struct LayerPlacement {
  int num_experts = 0;
  int num_gpus = 0;
  std::vector<std::int32_t> replica_to_expert;  ///< [replicas]
  std::vector<std::int32_t> replica_to_gpu;     ///< [replicas]
  std::vector<std::int32_t> home;  ///< [experts] slot; empty: `find_homes` of homes.hpp
  std::vector<double> shares;      ///< [replicas] weight >= 0; empty: equal

  [[nodiscard]] int num_replicas() const noexcept {
    return static_cast<int>(replica_to_expert.size());
  }

  /// Throws Error{kInput} that names the field, index and value unless every expert has a replica,
  /// all indices are in range, homes hold their expert, and every expert's shares have a positive
  /// finite sum.
  void validate() const;

  friend bool operator==(const LayerPlacement&, const LayerPlacement&) = default;
};

/// The placements of all MoE layers of a model; layers agree on experts and GPUs.
struct Placement {
  int num_experts = 0;
  int num_gpus = 0;  ///< where experts are sharded: groups of `shards` GPUs, and so in `layers`
  std::vector<LayerPlacement> layers;
  int shards = 1;  ///< GPUs that share each replica, 1/shards of its width on each

  /// As LayerPlacement::validate, with the layer's index in the message.
  void validate() const;

  friend bool operator==(const Placement&, const Placement&) = default;
};

/// GPU of each slot when `num_replicas` slots are shared out equally and contiguously.
/// Throws Error{kInfeasible} unless `num_replicas` is a multiple of `num_gpus`.
std::vector<std::int32_t> contiguous_gpus(int num_replicas, int num_gpus);

}  // namespace metro
