// SPDX-License-Identifier: Apache-2.0
// Policies that look at one token at a time: `home`, `hash`, `shares`.
#include "cuda/batch_access.cuh"
#include "cuda/engine_rule.hpp"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {
namespace {

/// A layer's table in global memory: few words are touched, and the L1 cache keeps those.
struct TableReader {
  const std::uint32_t* words;
  const TableLayout& layout;

  __device__ std::uint32_t operator()(int section, std::uint32_t index) const {
    return __ldg(words + section + index);
  }
};

struct HomeRule {
  __device__ static std::uint32_t slot(const TableReader& table, std::uint32_t expert,
                                       std::uint32_t /*row*/) {
    return table(table.layout.home, expert);
  }
};

struct HashRule {
  __device__ static std::uint32_t slot(const TableReader& table, std::uint32_t expert,
                                       std::uint32_t row) {
    const std::uint32_t list = table(table.layout.lists, expert);
    const std::uint32_t position = hash_of(row) % (list >> 16);
    return table(table.layout.entries, (list & 0xFFFFU) + position) & 0xFFFFU;
  }
};

struct SharesRule {
  __device__ static std::uint32_t slot(const TableReader& table, std::uint32_t expert,
                                       std::uint32_t row) {
    const std::uint32_t list = table(table.layout.lists, expert);
    const std::uint32_t last = (list & 0xFFFFU) + (list >> 16) - 1;
    std::uint32_t position = list & 0xFFFFU;
    while (position < last && hash_of(row) >= threshold(table, position)) ++position;
    return table(table.layout.entries, position) & 0xFFFFU;
  }

  /// Up to 2^32 inclusive.
  __device__ static std::uint64_t threshold(const TableReader& table, std::uint32_t position) {
    const std::uint64_t high = table(table.layout.thresholds, 2 * position + 1);
    return high << 32 | table(table.layout.thresholds, 2 * position);
  }
};

template <class Rule>
__global__ void __launch_bounds__(kMapThreads)
    map_kernel_of(const __grid_constant__ MapParams params) {
  const Batch& batch = params.batch;
  const TableReader table{params.table.words, params.table.layout};
  const int stride = static_cast<int>(gridDim.x) * kMapThreads;
  wait_for_previous_kernel(params.early_launch);
  const int num_valid = num_valid_ids(batch);
  for (int i = static_cast<int>(blockIdx.x) * kMapThreads + static_cast<int>(threadIdx.x);
       i < batch.num_ids; i += stride) {
    const int id = load_id(batch, i, num_valid, table.layout.num_experts);
    int slot = -1;
    if (id >= 0) {
      const auto row = static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(batch.topk);
      slot = static_cast<int>(Rule::slot(table, static_cast<std::uint32_t>(id), row));
    }
    store_replica(batch, i, slot);
    count_token(params.counts, slot);
  }
}

/// Counts the replicas that got a token, per GPU, and clears the marks for the next call.
__global__ void __launch_bounds__(kCountThreads)
    count_kernel_of(const __grid_constant__ CountParams params) {
  __shared__ int activated[kMaxRouterGpus];
  const TableLayout& layout = params.table.layout;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kMaxRouterGpus) activated[thread] = 0;
  __syncthreads();
  for (int slot = thread; slot < layout.max_replicas; slot += kCountThreads) {
    if (params.counts.seen[slot] == 0) continue;
    params.counts.seen[slot] = 0;
    atomicAdd(activated + params.table.words[layout.replica_gpus + slot], 1);
  }
  __syncthreads();
  if (thread < layout.num_gpus && params.counts.activated_per_gpu != nullptr) {
    params.counts.activated_per_gpu[thread] = activated[thread];
  }
  if (thread < 32) {
    const int most = __reduce_max_sync(0xFFFFFFFFU, max(activated[thread], activated[thread + 32]));
    if (thread == 0 && params.counts.max_activated != nullptr) *params.counts.max_activated = most;
  }
}

template <class Rule>
Kernel kernel_of() {
  return {reinterpret_cast<const void*>(&map_kernel_of<Rule>), kMapThreads, 0};
}

}  // namespace

Kernel map_kernel(DevicePolicy policy, const TableLayout& /*layout*/) {
  switch (policy) {
    case DevicePolicy::kHash:
      return kernel_of<HashRule>();
    case DevicePolicy::kShares:
      return kernel_of<SharesRule>();
    default:
      return kernel_of<HomeRule>();
  }
}

Kernel count_kernel(const TableLayout& /*layout*/) {
  return {reinterpret_cast<const void*>(&count_kernel_of), kCountThreads, 0};
}

}  // namespace metro::cuda
