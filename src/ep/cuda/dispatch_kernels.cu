// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cub/block/block_scan.cuh>

#include "cuda/check.hpp"
#include "ep/cuda/dispatch_kernels.hpp"

namespace metro::ep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPlanThreads = 1024;
constexpr int kValues = 8;  // bf16 in 16 bytes

unsigned blocks_for(std::int64_t items) {
  return static_cast<unsigned>((items + kThreads - 1) / kThreads);
}

__global__ void __launch_bounds__(kThreads)
    localise_kernel(const std::int32_t* ids, int num_ids, const SlotPlace* places, int gpu,
                    std::int32_t* out) {
  const int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (i >= num_ids) return;
  const std::int32_t slot = ids[i];
  std::int32_t local = -1;
  if (slot >= 0) {
    const SlotPlace place = places[slot];
    if (place.gpu == gpu) local = place.local;
  }
  out[i] = local;
}

/// One block a GPU: numbers the tokens that it serves.
__global__ void __launch_bounds__(kPlanThreads)
    plan_kernel(const __grid_constant__ PackParams params) {
  using Scan = cub::BlockScan<int, kPlanThreads>;
  __shared__ typename Scan::TempStorage storage;
  const int gpu = static_cast<int>(blockIdx.x);
  const int num_tokens = min(*params.num_tokens, params.max_tokens);
  std::int32_t* source_row = params.source_row + gpu * params.max_tokens;
  std::int32_t* packed_row = params.packed_row + gpu * params.max_tokens;
  int packed = 0;
  for (int first = 0; first < params.max_tokens; first += kPlanThreads) {
    const int token = first + static_cast<int>(threadIdx.x);
    int wanted = 0;
    if (token < num_tokens) {
      for (int k = 0; k < params.topk; ++k) {
        const std::int32_t slot = params.replica_ids[token * params.topk + k];
        if (slot >= 0 && params.places[slot].gpu == gpu) wanted = 1;
      }
    }
    int before = 0;
    int all = 0;
    Scan(storage).ExclusiveSum(wanted, before, all);
    if (token < params.max_tokens) packed_row[token] = wanted != 0 ? packed + before : -1;
    if (wanted != 0) source_row[packed + before] = token;
    packed += all;
    __syncthreads();
  }
  for (int row = packed + static_cast<int>(threadIdx.x); row < params.max_tokens;
       row += kPlanThreads) {
    source_row[row] = -1;
  }
}

/// One block a packed row.
__global__ void __launch_bounds__(kThreads) pack_kernel(const __grid_constant__ PackParams params) {
  const auto row = static_cast<std::size_t>(blockIdx.x);
  const int gpu = static_cast<int>(blockIdx.x) / params.max_tokens;
  const int thread = static_cast<int>(threadIdx.x);
  const std::int32_t token = params.source_row[row];
  for (int k = thread; k < params.topk; k += kThreads) {
    std::int32_t local = -1;
    float weight = 0;
    if (token >= 0) {
      const std::int32_t slot = params.replica_ids[token * params.topk + k];
      if (slot >= 0 && params.places[slot].gpu == gpu) local = params.places[slot].local;
      weight = params.weights[token * params.topk + k];
    }
    const std::size_t at = row * static_cast<unsigned>(params.topk) + static_cast<unsigned>(k);
    params.packed_ids[at] = local;
    params.packed_weights[at] = weight;
  }
  if (token < 0) return;
  const int vectors = params.hidden / kValues;
  const auto* from = reinterpret_cast<const uint4*>(params.x) +
                     static_cast<std::size_t>(token) * static_cast<unsigned>(vectors);
  auto* to = reinterpret_cast<uint4*>(params.packed_x) + row * static_cast<unsigned>(vectors);
  for (int i = thread; i < vectors; i += kThreads) to[i] = from[i];
}

__device__ void add(float (&sums)[kValues], const __nv_bfloat16* from) {
  const uint4 packed = *reinterpret_cast<const uint4*>(from);
  const auto* pairs = reinterpret_cast<const __nv_bfloat162*>(&packed);
#pragma unroll
  for (int i = 0; i < kValues / 2; ++i) {
    const float2 pair = __bfloat1622float2(pairs[i]);
    sums[2 * i] += pair.x;
    sums[2 * i + 1] += pair.y;
  }
}

__device__ void store(__nv_bfloat16* to, const float (&values)[kValues]) {
  uint4 packed;
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&packed);
#pragma unroll
  for (int i = 0; i < kValues / 2; ++i) {
    pairs[i] = __floats2bfloat162_rn(values[2 * i], values[2 * i + 1]);
  }
  *reinterpret_cast<uint4*>(to) = packed;
}

/// One block a token.
__global__ void __launch_bounds__(kThreads) sum_kernel(const __grid_constant__ SumParams params) {
  const auto token = static_cast<std::size_t>(blockIdx.x);
  const auto hidden = static_cast<std::size_t>(params.hidden);
  const bool valid = static_cast<int>(token) < *params.num_tokens;
  for (std::size_t first = threadIdx.x * kValues; first < hidden; first += kThreads * kValues) {
    float sums[kValues] = {};
    if (valid) {
      if (params.extra != nullptr) add(sums, params.extra + token * hidden + first);
      for (int part = 0; part < params.parts; ++part) {
        const auto base = static_cast<std::size_t>(part) * static_cast<unsigned>(params.max_tokens);
        std::int32_t row = static_cast<std::int32_t>(token);
        if (params.partial_row != nullptr) row = params.partial_row[base + token];
        if (row < 0) continue;
        add(sums, params.partials + (base + static_cast<unsigned>(row)) * hidden + first);
      }
    }
    store(params.out + token * hidden + first, sums);
  }
}

/// One block a row.
__global__ void __launch_bounds__(kThreads)
    silu_product_kernel(const __nv_bfloat16* in, int width, __nv_bfloat16* out) {
  const auto row = static_cast<std::size_t>(blockIdx.x);
  const __nv_bfloat16* gate = in + 2 * row * static_cast<unsigned>(width);
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) {
    const float g = __bfloat162float(gate[i]);
    const float up = __bfloat162float(gate[width + i]);
    out[row * static_cast<unsigned>(width) + static_cast<unsigned>(i)] =
        __float2bfloat16_rn(g / (1.0F + __expf(-g)) * up);
  }
}

}  // namespace

void launch_localise(const std::int32_t* ids, int num_ids, const SlotPlace* places, int gpu,
                     std::int32_t* out, cudaStream_t stream) {
  if (num_ids == 0) return;
  localise_kernel<<<blocks_for(num_ids), kThreads, 0, stream>>>(ids, num_ids, places, gpu, out);
  METRO_CUDA_CHECK(cudaGetLastError());
}

void launch_pack(const PackParams& params, cudaStream_t stream) {
  if (params.max_tokens == 0) return;
  plan_kernel<<<static_cast<unsigned>(params.num_gpus), kPlanThreads, 0, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
  const auto rows = static_cast<unsigned>(params.num_gpus * params.max_tokens);
  pack_kernel<<<rows, kThreads, 0, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
}

void launch_sum(const SumParams& params, cudaStream_t stream) {
  if (params.max_tokens == 0) return;
  sum_kernel<<<static_cast<unsigned>(params.max_tokens), kThreads, 0, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
}

void launch_silu_product(const __nv_bfloat16* in, int rows, int width, __nv_bfloat16* out,
                         cudaStream_t stream) {
  if (rows == 0) return;
  silu_product_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(in, width, out);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace metro::ep::cuda
