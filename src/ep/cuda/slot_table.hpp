// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/device_memory.hpp"
#include "ep/cuda/dispatch_kernels.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/layer_weights.hpp"
#include "ep/cuda/stream.hpp"
#include "ep/cuda/weight_maps.hpp"
#include "metro/placement.hpp"

namespace metro::ep::cuda {

/// Place of every slot; a GPU's slots are numbered in ascending order.
std::vector<SlotPlace> slot_places(const LayerPlacement& placement);

/// Slots of each GPU.
std::vector<int> slots_per_gpu(const LayerPlacement& placement);

/// Whether all GPUs have equally many slots, in one stretch each, in the GPUs' order.
bool is_contiguous(const LayerPlacement& placement);

/// What a rank's kernels know of the placement: where each slot is, and where the local slots'
/// weights lie. Device pointers stay valid for its life; the contents change by `update`.
class SlotTable {
 public:
  /// Throws Error{kDevice}.
  SlotTable(const WeightShape& shape, int max_local_slots, int max_replicas);

  /// For all later work in `stream`, graph replays included. Waits only while an earlier update is
  /// still being copied. At most as many entries as the constructor was told.
  void update(std::span<const SlotPlace> places, std::span<const ExpertPointers> local_slots,
              cudaStream_t stream);

  [[nodiscard]] const SlotPlace* places() const noexcept;
  [[nodiscard]] SlotWeights weights() const noexcept;

 private:
  WeightShape shape_;
  bool has_maps_;
  std::size_t num_local_;
  std::size_t pointers_at_;
  std::size_t places_at_;
  std::size_t num_bytes_;
  metro::cuda::DeviceArray<std::byte>
      device_;  // maps and four pointers of every local slot, then the places
  metro::cuda::PinnedArray<std::byte> staging_;
  Event copied_;
};

}  // namespace metro::ep::cuda
