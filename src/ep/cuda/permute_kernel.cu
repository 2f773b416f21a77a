// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cub/block/block_scan.cuh>

#include "cuda/check.hpp"
#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/fp8_scale.cuh"

namespace metro::ep::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xffffffffU;

/// Calls `visit(index, slot, row)` for each id of this warp's stretch of the batch, in order; `row`
/// counts up from `next[slot]` for each id of a slot, which is -1 for an id that is not ours.
template <class Visit>
__device__ void for_each_id(const PermuteParams& params, std::int32_t* next, Visit visit) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int stretch = (params.num_assignments + kThreads - 1) / kThreads * 32;
  const int end = min(params.num_assignments, (warp + 1) * stretch);
  for (int first = warp * stretch; first < end; first += 32) {
    const int index = first + lane;
    int slot = index < end ? params.replica_ids[index] - params.first_slot : -1;
    if (slot < 0 || slot >= params.num_slots) slot = -1;
    const unsigned same = __match_any_sync(kAllLanes, slot);
    const int earlier = __popc(same & ((1U << lane) - 1));
    const int row = slot < 0 ? 0 : next[slot] + earlier;
    __syncwarp();
    if (slot >= 0 && earlier == 0) next[slot] = row + __popc(same);
    __syncwarp();
    if (index < end) visit(index, slot, row);
  }
}

/// Most tokens of a group: as many as there is room for, but fewer where that leaves GPUs idle.
/// Groups of fewer tokens make more tiles, and smaller ones; their weights come from the L2 cache.
__device__ int group_limit(const PermuteParams& params, int active, int rows) {
  const ExpertGeometry& geometry = params.geometry;
  int limit = geometry.group_tokens;
  while (limit > 16) {
    const int groups = max(active, rows / limit);
    const int tiles = groups * geometry.up.tiles[token_class(limit)];
    if (2 * tiles >= geometry.busy_halves * params.blocks) break;
    limit /= 2;
  }
  return rows / limit + active <= params.max_groups ? limit : geometry.group_tokens;
}

/// 8 values each, 16 to a scale, of which the last of a row may be past its end.
__host__ __device__ constexpr int pieces_of(int hidden) { return (hidden + 127) / 128 * 16; }

/// e4m3 values of 8 of a token's 128 that share a scale; 16 lanes have the 128.
__device__ void quantize_tokens(const PermuteParams& params) {
  const QuantizedRows& to = params.quantized;
  const int pieces = pieces_of(params.hidden);
  const int all = params.num_tokens * pieces;
  const int stride = static_cast<int>(gridDim.x - 1) * kThreads;
  for (int first = static_cast<int>(blockIdx.x - 1) * kThreads; first < all; first += stride) {
    const int i = first + static_cast<int>(threadIdx.x);
    const int token = i / pieces;
    const int value = i % pieces * 8;
    const bool there = i < all && value < params.hidden;
    uint4 packed{};
    if (there) {
      const auto row = static_cast<std::size_t>(token) * static_cast<std::size_t>(params.hidden);
      packed = *reinterpret_cast<const uint4*>(params.tokens + row + value);
    }
    float2 values[4];
    float most = 0;
    const std::uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      values[j] = {__uint_as_float(words[j] << 16), __uint_as_float(words[j] & 0xffff0000U)};
      most = fmaxf(most, fmaxf(fabsf(values[j].x), fabsf(values[j].y)));
    }
#pragma unroll
    for (int lanes = 1; lanes < 16; lanes *= 2) {
      most = fmaxf(most, __shfl_xor_sync(kAllLanes, most, lanes));
    }
    if (!there) continue;
    const Fp8Scale scale(most);
    uint2 out;
    out.x = scale.quantize(values[0]) | scale.quantize(values[1]) << 16;
    out.y = scale.quantize(values[2]) | scale.quantize(values[3]) << 16;
    const auto at = static_cast<std::size_t>(token) * static_cast<std::size_t>(to.pitch);
    *reinterpret_cast<uint2*>(to.values + at + value) = out;
    if (value % 128 == 0) to.scales[value / 128 * to.scale_pitch + token] = scale.value();
  }
}

/// A stable counting sort of the ids by slot, in block 0; the others quantise the tokens. Each warp
/// counts its own stretch of the batch, so that no order depends on timing.
__global__ void __launch_bounds__(kThreads) permute_kernel(const PermuteParams params) {
  if (blockIdx.x > 0) return quantize_tokens(params);
  extern __shared__ std::int32_t counts[];  // [kWarps][num_slots], then the first row of each
  using Scan = cub::BlockScan<int, kThreads>;
  __shared__ typename Scan::TempStorage scan_storage;
  const int slots = params.num_slots;
  const int thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < kWarps * slots; i += kThreads) counts[i] = 0;
  __syncthreads();

  std::int32_t* mine = counts + thread / 32 * slots;
  for_each_id(params, mine, [&](int index, int slot, int) {
    if (slot < 0) params.plan.assignment_to_row[index] = -1;
  });
  __syncthreads();

  int total = 0;
  if (thread < slots) {
    for (int warp = 0; warp < kWarps; ++warp) {
      const int count = counts[warp * slots + thread];
      counts[warp * slots + thread] = total;
      total += count;
    }
  }
  int begin = 0;
  int rows = 0;
  const int active = __syncthreads_count(total > 0 ? 1 : 0);
  Scan(scan_storage).ExclusiveSum(total, begin, rows);
  __syncthreads();
  const int limit = group_limit(params, active, rows);
  const int num_groups = (total + limit - 1) / limit;
  const int last = total - (num_groups - 1) * limit;  // tokens of a slot's last group
  const auto tiles_of = [&](const ExpertProduct& product) {
    if (num_groups == 0) return 0;
    return (num_groups - 1) * product.tiles[token_class(limit)] + product.tiles[token_class(last)];
  };
  int group = 0;
  int all_groups = 0;
  int up_end = 0;
  int down_end = 0;
  Scan(scan_storage).ExclusiveSum(num_groups, group, all_groups);
  __syncthreads();
  Scan(scan_storage).ExclusiveSum(tiles_of(params.geometry.up), up_end);
  __syncthreads();
  Scan(scan_storage).ExclusiveSum(tiles_of(params.geometry.down), down_end);
  if (thread < slots) {
    for (int warp = 0; warp < kWarps; ++warp) counts[warp * slots + thread] += begin;
    for (int i = 0; i < num_groups; ++i) {
      const int done = i * limit;
      const int count = min(total - done, limit);
      params.plan.groups[group + i] = {thread, begin + done, count};
      params.plan.up_ends[group + i] = up_end += params.geometry.up.tiles[token_class(count)];
      params.plan.down_ends[group + i] = down_end += params.geometry.down.tiles[token_class(count)];
      params.plan.tiles_done[group + i] = 0;
    }
  }
  if (thread == 0) *params.plan.num_groups = all_groups;
  __syncthreads();

  for_each_id(params, mine, [&](int index, int slot, int row) {
    if (slot < 0) return;
    params.plan.row_to_assignment[row] = index;
    params.plan.assignment_to_row[index] = row;
  });
}

}  // namespace

void prepare_permute() {
  METRO_CUDA_CHECK(cudaFuncSetAttribute(permute_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        kWarps * 1024 * static_cast<int>(sizeof(std::int32_t))));
}

void launch_permute(const PermuteParams& params, cudaStream_t stream) {
  const auto bytes = static_cast<std::size_t>(kWarps * params.num_slots) * sizeof(std::int32_t);
  int blocks = 1;
  if (params.quantized.values != nullptr) {
    const int most = params.num_tokens * pieces_of(params.hidden);
    blocks += std::min((most + kThreads - 1) / kThreads, 4 * params.blocks);
  }
  permute_kernel<<<static_cast<unsigned>(blocks), kThreads, bytes, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace metro::ep::cuda
