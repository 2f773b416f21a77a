// SPDX-License-Identifier: Apache-2.0
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>

#include "cuda/check.hpp"
#include "layer_bench/cuda/random_fill.hpp"
#include "layer_bench/random_weights.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMaxBlocks = 4096;
constexpr int kValues = 8;

unsigned blocks_for(std::int64_t items) {
  return static_cast<unsigned>(std::min(kMaxBlocks, (items + kThreads - 1) / kThreads));
}

__device__ void set(__nv_bfloat16& out, float unit, float bound) {
  out = __float2bfloat16_rn(unit * bound);
}
__device__ void set(__nv_fp8_storage_t& out, float unit, float /*bound*/) {
  out = __nv_cvt_float_to_fp8(unit * 448.0F, __NV_SATFINITE, __NV_E4M3);
}

template <typename T>
struct alignas(kValues * sizeof(T)) Values {
  T value[kValues];
};

template <typename T>
__global__ void __launch_bounds__(kThreads)
    random_fill_kernel(const __grid_constant__ RandomBlock block, float bound, Values<T>* out) {
  const std::int64_t per_row = block.cols / kValues;
  const std::int64_t all = per_row * block.rows;
  const std::int64_t stride = static_cast<std::int64_t>(gridDim.x) * kThreads;
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < all;
       i += stride) {
    const auto row = static_cast<int>(i / per_row);
    const auto col = static_cast<int>(i % per_row) * kValues;
    const auto index = static_cast<std::uint64_t>(block.first_row + row) *
                           static_cast<std::uint64_t>(block.whole_cols) +
                       static_cast<std::uint64_t>(block.first_col + col);
    Values<T> values;
#pragma unroll
    for (int v = 0; v < kValues; ++v) {
      const bool valid = row < block.valid_rows && col + v < block.valid_cols;
      set(values.value[v], valid ? unit_weight(block.key, index + static_cast<unsigned>(v)) : 0.0F,
          bound);
    }
    out[i] = values;
  }
}

__global__ void __launch_bounds__(kThreads)
    fill_kernel(float value, std::size_t count, float* out) {
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * kThreads;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += stride) {
    out[i] = value;
  }
}

}  // namespace

void launch_random_fill(const RandomBlock& block, DataType type, void* out, cudaStream_t stream) {
  const std::int64_t vectors = std::int64_t{block.rows} * (block.cols / kValues);
  if (vectors == 0) return;
  const float bound = std::sqrt(3.0F / static_cast<float>(block.whole_cols));
  if (type == DataType::kFp8) {
    using Fp8 = __nv_fp8_storage_t;
    random_fill_kernel<Fp8><<<blocks_for(vectors), kThreads, 0, stream>>>(
        block, bound, static_cast<Values<Fp8>*>(out));
  } else {
    random_fill_kernel<__nv_bfloat16><<<blocks_for(vectors), kThreads, 0, stream>>>(
        block, bound, static_cast<Values<__nv_bfloat16>*>(out));
  }
  METRO_CUDA_CHECK(cudaGetLastError());
}

void launch_fill(float value, std::size_t count, float* out, cudaStream_t stream) {
  if (count == 0) return;
  fill_kernel<<<blocks_for(static_cast<std::int64_t>(count)), kThreads, 0, stream>>>(value, count,
                                                                                     out);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace metro::layer_bench::cuda
