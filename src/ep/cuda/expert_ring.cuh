// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ep/cuda/device_instructions.cuh"

namespace metro::ep::cuda {

/// A place in a ring of slots in shared memory, which one group of warps fills and another empties;
/// both count alike. A slot has a barrier for each side.
template <int kSlots, int kSlotBytes>
class RingPlace {
 public:
  static constexpr int kBytes = kSlots * (kSlotBytes + 16);

  /// `base`: kBytes of shared memory, the slots and then their barriers.
  __device__ explicit RingPlace(std::uint32_t base) : base_(base) {}

  [[nodiscard]] __device__ std::uint32_t bytes() const {
    return base_ + static_cast<std::uint32_t>(at_ * kSlotBytes);
  }
  [[nodiscard]] __device__ std::uint32_t full() const { return barrier(at_); }
  [[nodiscard]] __device__ std::uint32_t empty() const { return barrier(at_) + 8; }
  __device__ void wait_full() const { wait_barrier(full(), turn_); }
  __device__ void wait_empty() const { wait_barrier(empty(), turn_ ^ 1U); }
  __device__ void next() {
    if (++at_ == kSlots) {
      at_ = 0;
      turn_ ^= 1U;
    }
  }

  /// By one thread, before any use.
  __device__ void init_all(unsigned fillers, unsigned emptiers) const {
    for (int i = 0; i < kSlots; ++i) {
      init_barrier(barrier(i), fillers);
      init_barrier(barrier(i) + 8, emptiers);
    }
  }

 private:
  [[nodiscard]] __device__ std::uint32_t barrier(int slot) const {
    return base_ + static_cast<std::uint32_t>(kSlots * kSlotBytes + 16 * slot);
  }

  std::uint32_t base_;
  int at_ = 0;
  unsigned turn_ = 0;
};

}  // namespace metro::ep::cuda
