// SPDX-License-Identifier: Apache-2.0
// `even`: the i-th token of an expert, in row-major order, goes to its replica i mod count. Ranks
// come from counts per warp and per chunk, never from atomics whose order could vary.
#include "cuda/batch_access.cuh"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {
namespace {

constexpr int kWarps = kEvenThreads / 32;
constexpr int kRounds = kEvenStripIds / kEvenThreads;

/// Tokens of each expert in each chunk.
__global__ void __launch_bounds__(kEvenThreads)
    even_count_kernel_of(const __grid_constant__ EvenParams params) {
  extern __shared__ std::int32_t counts[];  // [experts]
  const int num_experts = params.table.layout.num_experts;
  const int thread = static_cast<int>(threadIdx.x);
  const int begin = static_cast<int>(blockIdx.x) * params.chunk_ids;
  const int num_valid = num_valid_ids(params.batch);
  for (int e = thread; e < num_experts; e += kEvenThreads) counts[e] = 0;
  __syncthreads();
  for (int i = begin + thread; i < begin + params.chunk_ids; i += kEvenThreads) {
    const int id = load_id(params.batch, i, num_valid, num_experts);
    if (id >= 0) atomicAdd(counts + id, 1);
  }
  __syncthreads();
  std::int32_t* histogram = params.histograms + static_cast<int>(blockIdx.x) * num_experts;
  for (int e = thread; e < num_experts; e += kEvenThreads) histogram[e] = counts[e];
}

/// Each warp takes kRounds * 32 neighbouring ids of a strip; `before` ends as the number of equal
/// ids that earlier warps of the strip have.
__global__ void __launch_bounds__(kEvenThreads)
    even_map_kernel_of(const __grid_constant__ EvenParams params) {
  extern __shared__ __align__(16) std::uint32_t table[];
  const TableLayout& layout = params.table.layout;
  const int num_experts = layout.num_experts;
  auto* base = reinterpret_cast<std::int32_t*>(table + layout.staged_words);  // [experts]
  auto* total = base + num_experts;                                           // [experts]
  auto* before = reinterpret_cast<std::uint16_t*>(total + num_experts);       // [warps][experts]
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  std::uint16_t* own = before + thread / 32 * num_experts;

  start_staging(params.table, table);
  wait_for_previous_kernel(params.early_launch);
  const Batch& batch = params.batch;
  const int num_valid = num_valid_ids(batch);
  const int chunk = static_cast<int>(blockIdx.x);
  for (int e = thread; e < num_experts; e += kEvenThreads) {
    std::int32_t sum = 0;
    for (int c = 0; c < chunk; ++c) sum += params.histograms[c * num_experts + e];
    base[e] = sum;
  }
  finish_staging();

  const int end = min(batch.num_ids, (chunk + 1) * params.chunk_ids);
  for (int strip = chunk * params.chunk_ids; strip < end; strip += kEvenStripIds) {
    for (int i = thread; i < kWarps * num_experts; i += kEvenThreads) before[i] = 0;
    __syncthreads();

    const int first = strip + thread / 32 * 32 * kRounds + lane;
    int id[kRounds];
    int rank[kRounds];
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      id[r] = load_id(batch, first + 32 * r, num_valid, num_experts);
    }
#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      const unsigned equal = __match_any_sync(0xFFFFFFFFU, id[r]);
      const int rank_in_round = __popc(equal & ((1U << lane) - 1));
      rank[r] = id[r] >= 0 ? own[id[r]] + rank_in_round : 0;
      __syncwarp();
      if (id[r] >= 0 && rank_in_round == 0) {
        own[id[r]] = static_cast<std::uint16_t>(own[id[r]] + __popc(equal));
      }
      __syncwarp();
    }
    __syncthreads();

    for (int e = thread; e < num_experts; e += kEvenThreads) {
      std::uint32_t sum = 0;
#pragma unroll 8
      for (int w = 0; w < kWarps; ++w) {
        const std::uint32_t count = before[w * num_experts + e];
        before[w * num_experts + e] = static_cast<std::uint16_t>(sum);
        sum += count;
      }
      total[e] = static_cast<std::int32_t>(sum);
    }
    __syncthreads();

#pragma unroll
    for (int r = 0; r < kRounds; ++r) {
      const int i = first + 32 * r;
      if (i >= end) continue;
      int slot = -1;
      if (id[r] >= 0) {
        const std::uint32_t list = table[layout.lists + id[r]];
        const auto turn = static_cast<std::uint32_t>(base[id[r]] + own[id[r]] + rank[r]);
        const std::uint32_t position = (list & 0xFFFFU) + turn % (list >> 16);
        slot = static_cast<int>(table[layout.entries + position] & 0xFFFFU);
      }
      store_replica(batch, i, slot);
      count_token(params.counts, slot);
    }
    __syncthreads();
    for (int e = thread; e < num_experts; e += kEvenThreads) base[e] += total[e];
  }
}

}  // namespace

Kernel even_count_kernel(const TableLayout& layout) {
  return {reinterpret_cast<const void*>(&even_count_kernel_of), kEvenThreads,
          4 * layout.num_experts};
}

Kernel even_map_kernel(const TableLayout& layout) {
  const int bytes = 4 * layout.staged_words + (8 + 2 * kWarps) * layout.num_experts;
  return {reinterpret_cast<const void*>(&even_map_kernel_of), kEvenThreads, bytes};
}

}  // namespace metro::cuda
