// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cuda/device_memory.hpp"
#include "ep/cuda/layer_weights.hpp"
#include "ep/layer_config.hpp"

namespace metro::ep::cuda {

/// The columns of the intermediate width that a rank holds: [begin, end), padded with zeros to
/// `width`, which the kernels can take. All of them, or 1/G of them under moe-TP.
struct ExpertSlice {
  int begin = 0;
  int end = 0;
  int width = 0;
};
ExpertSlice whole_expert(const LayerShape& shape) noexcept;
ExpertSlice expert_slice(const LayerShape& shape, int rank, int num_ranks) noexcept;

/// Random weights of experts on the GPU, equal to ep::RandomExpert's on the CPU bit for bit
/// (bf16 and fp8); owns them.
class RandomGpuExperts {
 public:
  /// Makes the experts of the given ids, in that order. Throws Error{kUsage} for fp32 and fp4,
  /// {kDevice} when they do not fit.
  RandomGpuExperts(const LayerShape& shape, const ExpertSlice& slice,
                   std::span<const std::int32_t> experts, std::uint64_t seed);

  /// By position in the list.
  [[nodiscard]] const ExpertPointers& operator[](std::size_t index) const {
    return experts_[index];
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::size_t bytes_ = 0;
  metro::cuda::DeviceArray<std::byte> memory_;
  std::vector<ExpertPointers> experts_;
};

/// Bytes of one expert's weights in a RandomGpuExperts.
std::size_t expert_bytes_on_gpu(const LayerShape& shape, const ExpertSlice& slice) noexcept;

/// A bf16 matrix [rows][cols] of random weights: the gate's, or one of a shared expert
/// (random_weights.hpp).
metro::cuda::DeviceArray<__nv_bfloat16> random_matrix(int rows, int cols, std::uint64_t key);

}  // namespace metro::ep::cuda
