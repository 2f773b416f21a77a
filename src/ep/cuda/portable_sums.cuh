// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_ring.cuh"
#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/portable_weight_ring.cuh"

/// From the sums of each warp to the stage's values.
namespace metro::ep::cuda {

inline constexpr int kSumWarps = 2;  ///< that add up
inline constexpr int kSumThreads = 32 * kSumWarps;
inline constexpr int kSumStride = 36;  ///< 32 rows of a token, and some to spread the banks
inline constexpr int kSumFloats = 8 * kSumStride;  ///< of a warp that multiplies: 8 tokens
using SumPlace = RingPlace<2, kWarps * kSumFloats * 4>;

/// Sums over the warps that share a tile's depth: 4 features of a token.
__device__ inline float4 add_up(std::uint32_t first, int deep) {
  float4 sum = load_shared_floats(first);
  for (int warp = 1; warp < deep; ++warp) {
    const float4 more =
        load_shared_floats(first + static_cast<std::uint32_t>(warp * kSumFloats * 4));
    sum.x += more.x;
    sum.y += more.y;
    sum.z += more.z;
    sum.w += more.w;
  }
  return sum;
}

__device__ inline float swiglu(float gate, float up) { return gate / (1.0F + __expf(-gate)) * up; }

/// Four values to bf16 in memory.
__device__ inline void store_bf16(__nv_bfloat16* to, float4 values) {
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(to);
  pairs[0] = __floats2bfloat162_rn(values.x, values.y);
  pairs[1] = __floats2bfloat162_rn(values.z, values.w);
}

/// Adds up 8 tokens of a tile and writes them.
__device__ inline void write_tokens(const ExpertParams& params, const Tile& tile,
                                    std::uint32_t sums, int first_token, int thread) {
  const ExpertProduct& product = product_of(params, tile.is_up);
  const int shift = (tile.is_up ? 2 : 3) + 3 - (31 - __clz(tile.deep));  // of fours of a token
  const int num_tokens = min(8, tile.group.count - first_token);
  for (int i = thread; i < num_tokens << shift; i += kSumThreads) {
    const int token = i >> shift;
    const int feature = (i & ((1 << shift) - 1)) * 4;
    if (tile.first + feature >= product.features) continue;
    const int high = feature / (tile.is_up ? 16 : 32);
    const int row = feature % (tile.is_up ? 16 : 32);
    const int at = high * tile.deep * kSumFloats + token * kSumStride + row;
    const std::uint32_t from = sums + static_cast<std::uint32_t>(at * 4);
    float4 values = add_up(from, tile.deep);
    const auto to_row = static_cast<std::size_t>(tile.group.begin + first_token + token);
    const auto to_feature = static_cast<std::size_t>(tile.first + feature);
    if (tile.is_up) {
      const float4 up = add_up(from + 16 * 4, tile.deep);
      values = {swiglu(values.x, up.x), swiglu(values.y, up.y), swiglu(values.z, up.z),
                swiglu(values.w, up.w)};
      store_bf16(params.activations + to_row * static_cast<unsigned>(params.activation_stride) +
                     to_feature,
                 values);
    } else {
      store_bf16(params.outputs + to_row * static_cast<unsigned>(params.hidden) + to_feature,
                 values);
    }
  }
}

/// The warps that add up, so that those that multiply go on at once.
__device__ inline void add_sums(const ExpertParams& params, TileFinder finder, TileQueue queue,
                                SumPlace slot, int thread) {
  for (; !queue.done(); queue.next()) {
    const Tile tile = finder.find(queue.number());
    for (int first = 0; first < tile.group.count; first += 8) {
      slot.wait_full();
      write_tokens(params, tile, slot.bytes(), first, thread);
      __syncwarp();
      if (thread % 32 == 0) arrive(slot.empty());
      slot.next();
    }
    if (tile.is_up) {
      sync_threads<kSumThreads>();
      if (thread == 0) {
        __threadfence();
        add_release(params.plan.tiles_done + tile.group_index);
      }
    }
  }
}

}  // namespace metro::ep::cuda
