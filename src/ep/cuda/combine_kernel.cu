// SPDX-License-Identifier: Apache-2.0
#include "cuda/check.hpp"
#include "ep/cuda/expert_kernels.hpp"

namespace metro::ep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kValues = 8;  // bf16 in 16 bytes

/// One block a token; each thread adds up 8 neighbouring values over the token's experts.
__global__ void __launch_bounds__(kThreads) combine_kernel(const CombineParams params) {
  const std::size_t token = blockIdx.x;
  const std::int32_t* rows = params.assignment_to_row + token * static_cast<unsigned>(params.topk);
  const float* weights = params.topk_weights + token * static_cast<unsigned>(params.topk);
  const auto hidden = static_cast<std::size_t>(params.hidden);
  for (std::size_t first = threadIdx.x * kValues; first < hidden; first += kThreads * kValues) {
    float sums[kValues] = {};
    for (int k = 0; k < params.topk; ++k) {
      const std::int32_t row = rows[k];
      if (row < 0) continue;
      const float weight = weights[k];
      const uint4 packed = *reinterpret_cast<const uint4*>(
          params.outputs + static_cast<std::size_t>(row) * hidden + first);
      const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&packed);
#pragma unroll
      for (int i = 0; i < kValues / 2; ++i) {
        const float2 pair = __bfloat1622float2(pairs[i]);
        sums[2 * i] += weight * pair.x;
        sums[2 * i + 1] += weight * pair.y;
      }
    }
    uint4 packed;
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(&packed);
#pragma unroll
    for (int i = 0; i < kValues / 2; ++i) {
      pairs[i] = __floats2bfloat162_rn(sums[2 * i], sums[2 * i + 1]);
    }
    *reinterpret_cast<uint4*>(params.out + token * hidden + first) = packed;
  }
}

}  // namespace

void launch_combine(const CombineParams& params, cudaStream_t stream) {
  if (params.num_tokens == 0) return;
  combine_kernel<<<static_cast<unsigned>(params.num_tokens), kThreads, 0, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace metro::ep::cuda
