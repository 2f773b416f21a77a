// SPDX-License-Identifier: Apache-2.0
#include <cub/block/block_scan.cuh>

#include "cuda/check.hpp"
#include "ep/cuda/expert_kernels.hpp"

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

/// Most tokens of a group. Fewer than there is room for make more tiles, and smaller ones, which
/// few experts need to keep the whole GPU busy; their weights come from the L2 cache then.
__device__ int group_limit(const PermuteParams& params, int active, int rows) {
  const bool busy = active * params.up.tiles[kTokenClasses - 1] >= 2 * params.blocks;
  const int limit = busy ? kGroupTokens : rows <= 24 * active ? 16 : 32;
  return rows / limit + active <= params.max_groups ? limit : kGroupTokens;
}

/// A stable counting sort of the ids by slot, in one block. Each warp counts its own stretch of the
/// batch, so that no order depends on timing.
__global__ void __launch_bounds__(kThreads) permute_kernel(const PermuteParams params) {
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
  Scan(scan_storage).ExclusiveSum(tiles_of(params.up), up_end);
  __syncthreads();
  Scan(scan_storage).ExclusiveSum(tiles_of(params.down), down_end);
  if (thread < slots) {
    for (int warp = 0; warp < kWarps; ++warp) counts[warp * slots + thread] += begin;
    for (int i = 0; i < num_groups; ++i) {
      const int done = i * limit;
      const int count = min(total - done, limit);
      params.plan.groups[group + i] = {thread, begin + done, count};
      params.plan.up_ends[group + i] = up_end += params.up.tiles[token_class(count)];
      params.plan.down_ends[group + i] = down_end += params.down.tiles[token_class(count)];
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
  permute_kernel<<<1, kThreads, bytes, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace metro::ep::cuda
