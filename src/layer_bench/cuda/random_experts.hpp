// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/device_memory.hpp"
#include "ep/cuda/expert_slice.hpp"
#include "ep/cuda/layer_weights.hpp"
#include "metro/ep/layer_config.hpp"

namespace metro::layer_bench::cuda {

/// Random weights of experts on the GPU, equal to RandomExpert's on the CPU bit for bit
/// (bf16 and fp8); owns them.
class RandomGpuExperts {
 public:
  /// Makes the experts of the given ids, in that order. Throws Error{kUsage} for fp32 and fp4,
  /// {kDevice} when they do not fit.
  RandomGpuExperts(const ep::LayerShape& shape, const ep::cuda::ExpertSlice& slice,
                   std::span<const std::int32_t> experts, std::uint64_t seed);

  /// By position in the list.
  [[nodiscard]] const ep::cuda::ExpertPointers& operator[](std::size_t index) const {
    return experts_[index];
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_ = 0;
  metro::cuda::DeviceArray<std::byte> memory_;
  std::vector<ep::cuda::ExpertPointers> experts_;
};

/// Bytes of one expert's weights in a RandomGpuExperts.
std::size_t expert_bytes_on_gpu(const ep::LayerShape& shape,
                                const ep::cuda::ExpertSlice& slice) noexcept;

/// A bf16 matrix [rows][cols] of random weights: the gate's, or one of a shared expert
/// (random_weights.hpp).
metro::cuda::DeviceArray<__nv_bfloat16> random_matrix(int rows, int cols, std::uint64_t key);

}  // namespace metro::layer_bench::cuda
