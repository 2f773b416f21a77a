// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/fp8_scale.cuh"
#include "ep/cuda/hopper_tile.cuh"

/// From the sums of a tile to the stage's values.
namespace metro::ep::cuda::hopper {

inline constexpr int kMultiplyThreads = kMultiplyGroups * 128;

/// Shared memory of the results: sums that change warpgroups, and each token's largest activation;
/// both twice, by turns, so that no tile waits for the readers of the one before.
struct ResultPlace {
  static constexpr int kSumBytes = 128 * sums_of(16) * 4;
  static constexpr int kLargestBytes = 128 * 4;
  static constexpr int kBytes = 2 * (kSumBytes + kLargestBytes);
  std::uint32_t base;
  std::uint32_t turn = 0;

  [[nodiscard]] __device__ std::uint32_t sums() const { return base + turn * kSumBytes; }
  [[nodiscard]] __device__ std::uint32_t largest(std::uint32_t of_turn) const {
    return base + 2 * kSumBytes + of_turn * kLargestBytes;
  }
};

/// Adds the second warpgroup's sums to the first's.
template <int kSums>
__device__ void join_depth(const LanePlace& place, ResultPlace& results, float (&sums)[kSums]) {
  const std::uint32_t at =
      results.sums() + static_cast<std::uint32_t>((place.warp * 32 + place.lane) * 4);
  if (place.warpgroup == 1) {
#pragma unroll
    for (int i = 0; i < kSums; ++i) store_shared(at + static_cast<std::uint32_t>(i * 512), sums[i]);
  }
  sync_threads<kMultiplyThreads>();
  if (place.warpgroup == 0) {
#pragma unroll
    for (int i = 0; i < kSums; ++i)
      sums[i] += load_shared_float(at + static_cast<std::uint32_t>(i * 512));
  }
  results.turn ^= 1U;
}

__device__ inline float swiglu(float gate, float up) { return gate / (1.0F + __expf(-gate)) * up; }

__device__ inline std::uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  std::uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}

/// Two activations of 8 tokens' sums, of token lane / 4 and features 2 * (lane % 4) and the next.
__device__ inline std::uint32_t activate(const float* sums) {
  return transpose(pack_bf16(swiglu(sums[0], sums[2]), swiglu(sums[1], sums[3])));
}

/// Says that this block's tile of the first product is in memory.
template <int kThreads, int kName>
__device__ void announce(const ExpertParams& params, const Tile& tile, bool first_thread) {
  sync_threads<kThreads, kName>();
  if (first_thread) {
    __threadfence();
    add_release(params.plan.tiles_done + tile.group_index);
  }
}

/// A lane's first feature of the tile's block, as `transpose` leaves it.
__device__ inline int first_feature(const Tile& tile, const HopperShape& shape, int high,
                                    const LanePlace& place) {
  return tile.first + block_of(shape, high, place.warpgroup) * block_features(tile.is_up) +
         place.warp * (tile.is_up ? 8 : 16) + place.lane % 4 * 2;
}

template <int kTokens, int kHigh>
__device__ void write_activations(const ExpertParams& params, const Tile& tile,
                                  const HopperShape& shape, const LanePlace& place,
                                  const TileSums<kTokens, kHigh>& sums) {
#pragma unroll
  for (int high = 0; high < kHigh; ++high) {
    const int feature = first_feature(tile, shape, high, place);
#pragma unroll
    for (int half = 0; half < halves_of(kTokens); ++half) {
#pragma unroll
      for (int i = 0; i < sums_of(kTokens) / 4; ++i) {
        const std::uint32_t pair = activate(sums[high][half] + 4 * i);
        const int token = half * kSlotTokens + i * 8 + place.lane / 4;
        if (token >= tile.group.count || feature >= params.geometry.up.features) continue;
        const auto row = static_cast<std::size_t>(tile.group.begin + token);
        auto* to =
            params.activations + row * static_cast<unsigned>(params.activation_stride) + feature;
        *reinterpret_cast<std::uint32_t*>(to) = pair;
      }
    }
  }
}

template <int kTokens, int kHigh>
__device__ void write_outputs(const ExpertParams& params, const Tile& tile,
                              const HopperShape& shape, const LanePlace& place,
                              const TileSums<kTokens, kHigh>& sums) {
#pragma unroll
  for (int high = 0; high < kHigh; ++high) {
    const int feature = first_feature(tile, shape, high, place);
#pragma unroll
    for (int half = 0; half < halves_of(kTokens); ++half) {
#pragma unroll
      for (int i = 0; i < sums_of(kTokens) / 4; ++i) {
        const float* four = sums[high][half] + 4 * i;
        const std::uint32_t pairs[2] = {transpose(pack_bf16(four[0], four[1])),
                                        transpose(pack_bf16(four[2], four[3]))};
        const int token = half * kSlotTokens + i * 8 + place.lane / 4;
        if (token >= tile.group.count) continue;
        const auto row = static_cast<std::size_t>(tile.group.begin + token);
        auto* to = params.outputs + row * static_cast<unsigned>(params.hidden) + feature;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          if (feature + 8 * j < params.hidden) {
            *reinterpret_cast<std::uint32_t*>(to + 8 * j) = pairs[j];
          }
        }
      }
    }
  }
}

/// The 128 activations of the tile that share a scale, of each token: both warpgroups have some.
template <int kTokens, int kHigh>
__device__ void quantize_activations(const ExpertParams& params, const Tile& tile,
                                     const HopperShape& shape, const LanePlace& place,
                                     ResultPlace& results, const TileSums<kTokens, kHigh>& sums) {
  constexpr int kFours = sums_of(kTokens) / 4;
  const QuantizedRows& to = params.quantized_activations;
  std::uint32_t pairs[kHigh][halves_of(kTokens)][kFours];
  const std::uint32_t largest = results.largest(results.turn);
#pragma unroll
  for (int half = 0; half < halves_of(kTokens); ++half) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      float most = 0;
#pragma unroll
      for (int high = 0; high < kHigh; ++high) {
        const std::uint32_t pair = activate(sums[high][half] + 4 * i);
        pairs[high][half][i] = pair;
        // Features past the last one are zeros: they change no maximum.
        most = fmaxf(most, fmaxf(fabsf(__uint_as_float(pair << 16)),
                                 fabsf(__uint_as_float(pair & 0xffff0000U))));
      }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 2));
      const int token = half * kSlotTokens + i * 8 + place.lane / 4;
      if (place.lane % 4 == 0) max_shared(largest + static_cast<std::uint32_t>(token * 4), most);
    }
  }
  sync_threads<kMultiplyThreads>();
  const int thread = place.warpgroup * 128 + place.warp * 32 + place.lane;
  if (thread < 128) {
    store_shared(results.largest(results.turn ^ 1U) + static_cast<std::uint32_t>(thread * 4), 0.0F);
  }
#pragma unroll
  for (int half = 0; half < halves_of(kTokens); ++half) {
#pragma unroll
    for (int i = 0; i < kFours; ++i) {
      const int token = half * kSlotTokens + i * 8 + place.lane / 4;
      if (token >= tile.group.count) continue;
      const Fp8Scale scale(load_shared_float(largest + static_cast<std::uint32_t>(token * 4)));
      const auto row = static_cast<std::size_t>(tile.group.begin + token);
#pragma unroll
      for (int high = 0; high < kHigh; ++high) {
        const int feature = first_feature(tile, shape, high, place);
        if (feature >= params.geometry.up.features) continue;
        const std::uint32_t pair = pairs[high][half][i];
        const std::uint32_t bytes =
            scale.quantize({__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000U)});
        *reinterpret_cast<std::uint16_t*>(to.values + row * static_cast<unsigned>(to.pitch) +
                                          feature) = static_cast<std::uint16_t>(bytes);
      }
      if (thread < 32 && place.lane % 4 == 0) {
        to.scales[static_cast<unsigned>(tile.first / 128 * to.scale_pitch) + row] = scale.value();
      }
    }
  }
  results.turn ^= 1U;
}

}  // namespace metro::ep::cuda::hopper
