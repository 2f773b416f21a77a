// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/batch_access.cuh"
#include "cuda/device_warp.cuh"
#include "cuda/engine_output.cuh"
#include "cuda/kernel_params.hpp"
#include "cuda/peer_exchange.cuh"
#include "cuda/solver_memory.hpp"
#include "cuda/warp_macros.hpp"

namespace metro::cuda {

/// Bitmaps in registers are what limits the CTA.
template <int kWords, int kGpuSets>
inline constexpr int kActiveThreads = kWords * kGpuSets >= 32 ? 512 : 1024;

/// Shared memory of active_kernel, behind the table.
template <int kWords>
struct ActiveMemory {
  std::uint8_t* flags;     // [32 * kWords] experts that a token chose
  std::uint8_t* gpu_of;    // [32 * kWords]
  std::uint32_t* scratch;  // [gpus][kWords]

  __device__ explicit ActiveMemory(std::uint32_t* begin)
      : flags(reinterpret_cast<std::uint8_t*>(begin)),
        gpu_of(flags + 32 * kWords),
        scratch(begin + 16 * kWords) {}

  __device__ void clear() const {
    auto* words = reinterpret_cast<std::uint32_t*>(flags);
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < 16 * kWords;
         i += static_cast<int>(blockDim.x)) {
      words[i] = i < 8 * kWords ? 0U : 0x01010101U * kUnmoved;
    }
  }
};

/// What all ranks together activate, when a kernel has more to go by than its own ids.
template <int kWords>
struct Gathered {
  std::uint32_t active[kWords];
  std::uint32_t message[kWords + kMessageTail];  // this rank's, to send
  int num_foreign;                               // ranks of another epoch
  std::uint32_t faults;                          // bits of ExchangeFault
};

/// Word `index` of a rank's message.
template <int kWords>
__device__ __forceinline__ void take_word(Gathered<kWords>& all, const ActiveParams& params,
                                          int rank, int index, std::uint32_t word,
                                          std::uint32_t epoch) {
  if (index < kWords) {
    if (word != 0) atomicOr(&all.active[index], word);
  } else if (index == kWords) {
    if (params.tokens_per_rank != nullptr && blockIdx.x == 0) {
      params.tokens_per_rank[rank] = static_cast<std::int32_t>(word);
    }
  } else if (word != epoch) {
    atomicAdd(&all.num_foreign, 1);
  }
}

/// Puts what this rank knows alone in place of what came, when some message did not.
template <int kWords>
__device__ __forceinline__ void forget_peers(Gathered<kWords>& all, const ActiveParams& params) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kWords) all.active[thread] = all.message[thread];
  if (thread >= params.peers.num_ranks || params.tokens_per_rank == nullptr) return;
  params.tokens_per_rank[thread] = static_cast<std::int32_t>(word_without_peers(
      params.peers, all.message, kWords + kMessageTail, thread, kWords + kTokensWord));
}

/// Fills `all` from the peers (one CTA) or from gathered messages. Returns whether `home` must be
/// used. Every thread of the CTA calls it. Out of line, as take_homes: see load_ids_singly.
template <int kWords>
__device__ __noinline__ bool gather(Gathered<kWords>& all, const ActiveParams& params,
                                    const std::uint8_t* flags, int num_valid) {
  constexpr int kMessageWords = kWords + kMessageTail;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  const std::uint32_t epoch = params.table.words[params.table.layout.epoch];
  for (int w = thread / 32; w < kWords; w += threads / 32) {
    const std::uint32_t bits = __ballot_sync(0xFFFFFFFFU, flags[32 * w + thread % 32] != 0);
    if (thread % 32 == 0) {
      all.message[w] = bits;
      all.active[w] = 0;
    }
  }
  if (thread == 0) {
    all.message[kWords + kTokensWord] = static_cast<std::uint32_t>(num_valid / params.batch.topk);
    all.message[kWords + kEpochWord] = epoch;
    all.num_foreign = 0;
    all.faults = 0;
  }
  __syncthreads();
  bool alone = false;
  if (params.peers.num_ranks > 0) {
    const ExchangeCall call = next_call(*params.exchange);
    if (!call.stopped) {
      const auto take = [&](int rank, int index, std::uint32_t word) {
        take_word(all, params, rank, index, word, epoch);
      };
      const std::uint32_t faults =
          exchange_in_block(params.peers, call.tag, all.message, kMessageWords, take);
      if (faults != 0) atomicOr(&all.faults, faults);
    }
    __syncthreads();
    alone = call.stopped || all.faults != 0;
    if (thread == 0) end_call(*params.exchange, call, all.faults);
    if (alone) forget_peers(all, params);
    __syncthreads();
  } else {
    for (int i = thread; i < params.num_messages * kMessageWords; i += threads) {
      take_word(all, params, i / kMessageWords, i % kMessageWords, params.messages[i], epoch);
    }
    __syncthreads();
  }
  const bool use_home = alone || all.num_foreign > 0;
  if (use_home && thread == 0 && blockIdx.x == 0 && params.exchange != nullptr) {
    ++params.exchange->fallbacks;
  }
  return use_home;
}

/// The home map in place of a solution, with its counts.
template <int kWords>
__device__ __noinline__ void take_homes(const Gathered<kWords>& all, const ActiveParams& params,
                                        std::uint32_t* slots, std::uint32_t* loads) {
  const TableLayout& layout = params.table.layout;
  const int thread = static_cast<int>(threadIdx.x);
  const int threads = static_cast<int>(blockDim.x);
  for (int gpu = thread; gpu < layout.num_gpus; gpu += threads) loads[gpu] = 0;
  __syncthreads();
  for (int e = thread; e < layout.num_experts; e += threads) {
    const std::uint32_t slot = params.table.words[layout.home + e];
    slots[e] = slot;
    if ((all.active[e / 32] >> (e % 32) & 1U) != 0) {
      atomicAdd(loads + params.table.words[layout.replica_gpus + slot], 1U);
    }
  }
  __syncthreads();
  if (blockIdx.x != 0 || thread >= 32) return;
  int most = 0;
  for (int gpu = thread; gpu < layout.num_gpus; gpu += 32) {
    const auto load = static_cast<int>(loads[gpu]);
    most = max(most, load);
    if (params.counts.activated_per_gpu != nullptr) params.counts.activated_per_gpu[gpu] = load;
  }
  most = __reduce_max_sync(0xFFFFFFFFU, most);
  if (thread == 0 && params.counts.max_activated != nullptr) *params.counts.max_activated = most;
}

/// Runs the solver in the first warp. Returns, to that warp, whether any expert left its base.
template <class Solver, int kWords>
__device__ __forceinline__ bool solve_in_warp(const ActiveParams& params,
                                              const SolverMemory& memory, const std::uint8_t* flags,
                                              const std::uint32_t* gathered) {
  const DeviceWarp warp;
  std::uint32_t active[kWords];
  if (gathered != nullptr) {
#pragma unroll
    for (int w = 0; w < kWords; ++w) active[w] = gathered[w];
  } else {
#pragma unroll
    for (int w = 0; w < kWords; ++w) active[w] = warp.ballot(flags[32 * w + warp.lane()] != 0);
  }
  Solver solver(memory, warp);
  const int most = solver.solve(active);
  if (blockIdx.x == 0) {
    const Counts& counts = params.counts;
    if (counts.activated_per_gpu != nullptr) {
      for (int gpu = warp.lane(); gpu < memory.layout.num_gpus; gpu += 32) {
        counts.activated_per_gpu[gpu] = gpu < 32 ? solver.load(0) : solver.load(Solver::kSets - 1);
      }
    }
    if (warp.lane() == 0 && counts.max_activated != nullptr) *counts.max_activated = most;
    if (warp.lane() == 0 && counts.moves != nullptr) *counts.moves = solver.moves();
  }
  return solver.moves() > 0;
}

/// Replaces the slots of experts that moved.
template <int kWords>
__device__ __forceinline__ void patch_slots(const TableLayout& layout, std::uint32_t* table,
                                            const std::uint8_t* gpu_of) {
  for (int e = static_cast<int>(threadIdx.x); e < layout.num_experts;
       e += static_cast<int>(blockDim.x)) {
    const std::uint32_t gpu = gpu_of[e];
    const std::uint32_t* entry = table + layout.entries + (table[layout.lists + e] & 0xFFFFU);
    if (gpu == kUnmoved) continue;
#pragma unroll 1
    while (*entry >> 16 != gpu) ++entry;
    table[layout.slots + e] = *entry & 0xFFFFU;
  }
}

/// After the last CTA has read them, the marks are zeroed for the next call.
template <int kWords>
__device__ __forceinline__ void clear_marks(const ActiveParams& params) {
  __shared__ bool is_last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicInc(params.ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x < kWords) params.marks[threadIdx.x] = 0;
}

template <int kVectors>
__device__ __forceinline__ void load_batch(const Batch& batch, FourIds (&ids)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) ids[v] = load_ids(batch, first_id<kVectors>(v));
}

/// Mark: sets the flags of the experts that the CTA's ids name; ids that do not count become -1.
template <int kVectors>
__device__ __forceinline__ void mark_experts(FourIds (&ids)[kVectors], int num_valid,
                                             int num_experts, std::uint8_t* flags) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    mask_ids(ids[v], first_id<kVectors>(v), num_valid, num_experts);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (ids[v].id[k] >= 0) flags[ids[v].id[k]] = 1;
    }
  }
}

/// Solve: makes the slots in the staged table those of this batch's answer. Every thread of the CTA
/// calls it, with the flags and the table in place.
template <class Solver, int kWords>
__device__ __forceinline__ void solve_batch(const ActiveParams& params, std::uint32_t* table,
                                            const ActiveMemory<kWords>& memory, int num_valid) {
  __shared__ Gathered<kWords> all;
  __shared__ bool moved;
  const TableLayout& layout = params.table.layout;
  const bool exchanged = params.peers.num_ranks > 0 || params.messages != nullptr;
  if (exchanged && gather(all, params, memory.flags, num_valid)) [[unlikely]] {
    take_homes(all, params, table + layout.slots, memory.scratch);
    return;
  }
  if (threadIdx.x < 32) {
    const SolverMemory solver{layout, table, memory.scratch, memory.gpu_of};
    const bool any = solve_in_warp<Solver, kWords>(params, solver, memory.flags,
                                                   exchanged ? all.active : nullptr);
    if (threadIdx.x == 0) moved = any;
  }
  __syncthreads();
  if (!moved) return;
  patch_slots<kWords>(layout, table, memory.gpu_of);
  __syncthreads();
}

/// Map: writes the slots of the CTA's ids.
template <int kVectors>
__device__ __forceinline__ void map_ids(const ActiveParams& params, const std::uint32_t* slots,
                                        FourIds (&ids)[kVectors]) {
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int first = first_id<kVectors>(v);
    if (first >= params.batch.num_ids) continue;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (ids[v].id[k] >= 0) ids[v].id[k] = static_cast<int>(slots[ids[v].id[k]]);
    }
    store_replicas(params.batch, first, ids[v]);
    if (params.counts.tokens_per_replica == nullptr) continue;
#pragma unroll
    for (int k = 0; k < 4; ++k) count_token(params.counts, ids[v].id[k]);
  }
}

/// Routes a batch by the experts it activates: marks them, lets one warp solve, maps ids to slots.
///
/// One CTA when it is given ids alone. With `messages`, any number: each solves the same problem
/// and maps its own part of the ids. `kEngine`: by an engine's maps, which the warps that do not
/// solve look up meanwhile.
template <template <class, int, int> class SolverOf, int kWords, int kGpuSets, int kVectors,
          bool kEngine = false>
__global__ void __launch_bounds__(kActiveThreads<kWords, kGpuSets>)
    active_kernel_of(const __grid_constant__ ActiveParams params) {
  extern __shared__ __align__(16) std::uint32_t table[];
  const TableLayout& layout = params.table.layout;
  const ActiveMemory<kWords> memory(table + layout.staged_words);

  start_staging(params.table, table);
  memory.clear();
  wait_for_previous_kernel(params.early_launch);
  FourIds ids[kVectors];
  load_batch(params.batch, ids);
  const int num_valid = num_valid_ids(params.batch);
  __syncthreads();
  mark_experts(ids, num_valid, layout.num_experts, memory.flags);
  finish_staging();
  __syncthreads();
  using Solver = SolverOf<DeviceWarp, kWords, kGpuSets>;
  if constexpr (kEngine) {
    __shared__ std::uint32_t agreed[kWords];
    const EngineOutput<kWords> output(params.engine, agreed);
    output.look_up(layout, table, memory.flags);
    solve_batch<Solver>(params, table, memory, num_valid);
    output.serve(params.batch, num_valid, layout.num_experts, table + layout.slots, ids);
  } else {
    solve_batch<Solver>(params, table, memory, num_valid);
    map_ids(params, table + layout.slots, ids);
  }
  if (params.ticket != nullptr) clear_marks<kWords>(params);
}

}  // namespace metro::cuda
