// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "cuda/kernel_params.hpp"

namespace metro::cuda {

/// Four neighbouring ids of a batch, whatever their width in memory; -1 past the end.
struct FourIds {
  int id[4];
};

/// Ids that are no expert of any router become -1 before they are narrowed.
__device__ __forceinline__ int narrow(long long id) {
  return static_cast<unsigned long long>(id) < kMaxRouterExperts ? static_cast<int>(id) : -1;
}

/// One by one: for the end of a batch, and for pointers that are not aligned. Kept out of line,
/// since a kernel this short spends much of its time on fetching its own code.
static __device__ __noinline__ FourIds load_ids_singly(const void* from, int count, bool wide) {
  FourIds ids{{-1, -1, -1, -1}};
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k >= count) continue;
    ids.id[k] =
        wide ? narrow(static_cast<const long long*>(from)[k]) : static_cast<const int*>(from)[k];
  }
  return ids;
}

static __device__ __noinline__ void store_singly(void* to, int count, bool wide, FourIds slots) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (k >= count) continue;
    if (wide) {
      static_cast<long long*>(to)[k] = slots.id[k];
    } else {
      static_cast<int*>(to)[k] = slots.id[k];
    }
  }
}

/// Where id `index` of an array of narrow or wide ids is.
template <typename Void>
__device__ __forceinline__ Void* address_of(Void* ids, int index, bool wide) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  return static_cast<Byte*>(ids) + (wide ? std::int64_t{8} : std::int64_t{4}) * index;
}

__device__ __forceinline__ FourIds load_ids(const Batch& batch, int first) {
  if (batch.vectorised && first + 4 <= batch.num_ids) {
    if (batch.wide) {
      const auto* from = reinterpret_cast<const longlong2*>(batch.ids) + first / 2;
      const longlong2 low = from[0];
      const longlong2 high = from[1];
      return {{narrow(low.x), narrow(low.y), narrow(high.x), narrow(high.y)}};
    }
    const int4 four = reinterpret_cast<const int4*>(batch.ids)[first / 4];
    return {{four.x, four.y, four.z, four.w}};
  }
  if (first >= batch.num_ids) return {{-1, -1, -1, -1}};
  return load_ids_singly(address_of(batch.ids, first, batch.wide), batch.num_ids - first,
                         batch.wide);
}

__device__ __forceinline__ void store_replicas(const Batch& batch, int first,
                                               const FourIds& slots) {
  const auto& slot = slots.id;
  if (batch.vectorised && first + 4 <= batch.num_ids) {
    if (batch.wide) {
      auto* to = static_cast<longlong2*>(batch.replicas) + first / 2;
      to[0] = make_longlong2(slot[0], slot[1]);
      to[1] = make_longlong2(slot[2], slot[3]);
    } else {
      static_cast<int4*>(batch.replicas)[first / 4] = make_int4(slot[0], slot[1], slot[2], slot[3]);
    }
    return;
  }
  store_singly(address_of(batch.replicas, first, batch.wide), batch.num_ids - first, batch.wide,
               slots);
}

/// Where group `vector` of a thread's ids begins in the batch.
template <int kVectors>
__device__ __forceinline__ int first_id(int vector) {
  const unsigned group = blockIdx.x * kVectors + static_cast<unsigned>(vector);
  return 4 * static_cast<int>(group * blockDim.x + threadIdx.x);
}

/// How many of the batch's ids count: those of the first `*num_valid_tokens` rows.
__device__ __forceinline__ int num_valid_ids(const Batch& batch) {
  if (batch.num_valid_tokens == nullptr) return batch.num_ids;
  const int rows = batch.num_ids / batch.topk;
  return min(max(*batch.num_valid_tokens, 0), rows) * batch.topk;
}

/// -1 for padding rows and for ids that are no expert.
__device__ __forceinline__ void mask_ids(FourIds& ids, int first, int num_valid, int num_experts) {
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const bool is_expert = static_cast<unsigned>(ids.id[k]) < static_cast<unsigned>(num_experts);
    if (!is_expert || first + k >= num_valid) ids.id[k] = -1;
  }
}

__device__ __forceinline__ void count_token(const Counts& counts, int slot) {
  if (slot < 0) return;
  if (counts.tokens_per_replica != nullptr) atomicAdd(counts.tokens_per_replica + slot, 1);
  if (counts.seen != nullptr) counts.seen[slot] = 1;
}

/// One id, as load_ids and mask_ids give four.
__device__ __forceinline__ int load_id(const Batch& batch, int i, int num_valid, int num_experts) {
  if (i >= num_valid) return -1;
  const int id = batch.wide ? narrow(static_cast<const long long*>(batch.ids)[i])
                            : static_cast<const int*>(batch.ids)[i];
  return static_cast<unsigned>(id) < static_cast<unsigned>(num_experts) ? id : -1;
}

__device__ __forceinline__ void store_replica(const Batch& batch, int i, int slot) {
  if (batch.wide) {
    static_cast<long long*>(batch.replicas)[i] = slot;
  } else {
    static_cast<int*>(batch.replicas)[i] = slot;
  }
}

/// Starts the copy of a table's front part to shared memory; `finish_staging` and a barrier end it.
__device__ __forceinline__ void start_staging(const TableView& table, std::uint32_t* shared) {
  const auto target = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  const int words = table.layout.staged_words;
#pragma unroll 1
  for (int w = 4 * static_cast<int>(threadIdx.x); w < words;
       w += 4 * static_cast<int>(blockDim.x)) {
    asm volatile(
        "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(target + 4U * static_cast<unsigned>(w)),
        "l"(table.words + w)
        : "memory");
  }
}

__device__ __forceinline__ void finish_staging() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

/// With a programmatic launch this kernel may start while the one before it still runs: everything
/// that kernel may have written is read after this. Every CTA waits, and none triggers before it
/// has, so the kernel behind us, which waits for us alone, waits for those before us too.
/// `has_early_launch` says whether a kernel was compiled with it.
__device__ __forceinline__ void wait_for_previous_kernel(bool early_launch) {
#if __CUDA_ARCH__ >= 900
  if (early_launch) {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  }
#else
  static_cast<void>(early_launch);
#endif
}

}  // namespace metro::cuda
