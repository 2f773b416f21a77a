// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace metro::cuda {

/// The warp-wide operations of the GPU, for code that can also run on an emulated warp.
struct DeviceWarp {
  static constexpr unsigned kAll = 0xFFFFFFFFU;

  __device__ __forceinline__ int lane() const { return static_cast<int>(threadIdx.x % 32); }
  __device__ __forceinline__ void sync() const { __syncwarp(); }
  __device__ __forceinline__ std::uint32_t ballot(bool value) const {
    return __ballot_sync(kAll, value);
  }
  __device__ __forceinline__ int shuffle(int value, int source) const {
    return __shfl_sync(kAll, value, source);
  }
  __device__ __forceinline__ int reduce_add(int value) const {
    return __reduce_add_sync(kAll, value);
  }
  __device__ __forceinline__ int reduce_max(int value) const {
    return __reduce_max_sync(kAll, value);
  }
  __device__ __forceinline__ int reduce_min(int value) const {
    return __reduce_min_sync(kAll, value);
  }
};

}  // namespace metro::cuda
