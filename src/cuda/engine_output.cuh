// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/batch_access.cuh"
#include "cuda/engine_rule.hpp"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {

/// The expert of an id in a padded row, or -1. Reads the batch again: most batches have few.
static __device__ __noinline__ int padded_expert(const Batch& batch, int index, int num_valid,
                                                 int num_experts) {
  const int own = load_id(batch, index, batch.num_ids, num_experts);
  const int row = source_row(index / batch.topk, num_valid / batch.topk);
  const int source = row * batch.topk + index % batch.topk;
  return own < 0 ? -1 : load_id(batch, source, batch.num_ids, num_experts);
}

static __device__ __noinline__ int engines_choice(const EngineMaps& maps, int expert, int row) {
  return static_cast<int>(hashed_replica(maps, expert, static_cast<std::uint32_t>(row)));
}

/// What a kernel does with an engine's maps: looks them up before the solution is there, and serves
/// by both. Made by every thread of the CTA once the batch's flags and the table are in place.
template <int kWords>
class EngineOutput {
 public:
  __device__ __forceinline__ EngineOutput(const EngineMaps& maps, std::uint32_t* agreed)
      : maps_(maps),
        agreed_(agreed),
        is_live_(*maps.is_live != 0),
        is_recording_(*maps.is_recording) {}

  /// Says of each expert of the batch whether the maps agree with the table; of several CTAs each
  /// looks at all experts, as its padded rows may repeat rows of another. By all warps but the
  /// first, which solves; a barrier must come before `serve`.
  __device__ __forceinline__ void look_up(const TableLayout& layout, const std::uint32_t* table,
                                          const std::uint8_t* flags) const {
    const int warps = static_cast<int>(blockDim.x) / 32 - 1;
    const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
    for (int w = static_cast<int>(threadIdx.x) / 32 - 1; w >= 0 && w < kWords; w += warps) {
      const int expert = 32 * w + lane;
      const bool wanted = gridDim.x == 1 ? flags[expert] != 0 : expert < layout.num_experts;
      const bool agree = wanted && agrees(maps_, layout, table, expert);
      const std::uint32_t bits = __ballot_sync(0xFFFFFFFFU, agree);
      if (lane == 0) agreed_[w] = bits;
    }
  }

  /// Writes the replicas of the CTA's ids (of padded rows: -1 so far), records and counts them.
  template <int kVectors>
  __device__ __forceinline__ void serve(const Batch& batch, int num_valid, int num_experts,
                                        const std::uint32_t* slots,
                                        FourIds (&ids)[kVectors]) const {
    const bool is_routed = is_live_ && num_valid > 0;
    int wrong = 0;
    std::uint64_t sum = 0;
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      const int first = first_id<kVectors>(v);
      if (first >= batch.num_ids) continue;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int index = first + k;
        const bool valid = index < num_valid;
        int expert = ids[v].id[k];
        if (!valid && index < batch.num_ids) {
          expert = padded_expert(batch, index, num_valid, num_experts);
        }
        const bool ours = is_routed && expert >= 0 && (agreed_[expert / 32] >> (expert % 32) & 1U);
        int slot = ours ? static_cast<int>(slots[expert]) : -1;
        if (!ours && expert >= 0) slot = engines_choice(maps_, expert, index / batch.topk);
        ids[v].id[k] = slot;
        if (!valid) continue;
        wrong += !ours && expert >= 0;
        if (maps_.checksum != nullptr) sum += checksum_term(index, slot);
        if (is_recording_ && static_cast<unsigned>(slot) < static_cast<unsigned>(maps_.load_size)) {
          atomicAdd(maps_.load + slot, 1);
        }
      }
      store_replicas(batch, first, ids[v]);
    }
    if (wrong > 0) add(maps_.faults + (is_live_ ? 1 : 0), static_cast<std::uint64_t>(wrong));
    if (maps_.checksum != nullptr) add_over_warp(maps_.checksum, sum);
  }

 private:
  __device__ static void add(std::int64_t* to, std::uint64_t value) {
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
  }

  __device__ static void add_over_warp(std::int64_t* to, std::uint64_t sum) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
      sum += __shfl_xor_sync(0xFFFFFFFFU, sum, distance);
    }
    if (threadIdx.x % 32 == 0 && sum != 0) add(to, sum);
  }

  const EngineMaps& maps_;
  std::uint32_t* agreed_;
  bool is_live_;
  bool is_recording_;
};

}  // namespace metro::cuda
