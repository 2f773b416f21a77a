// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/portable_token_feed.cuh"
#include "ep/cuda/portable_weight_ring.cuh"

/// What a warp does with a stage of weights in shared memory.
namespace metro::ep::cuda {

/// Sums of one warp: 2 halves of 16 features, by tokens.
template <int kTokenTiles>
struct Sums {
  float values[2][kTokenTiles][4];
};

/// Tokens of a slot, in eights.
constexpr int slot_tiles(int token_tiles) {
  return token_tiles < kSlotTokens / 8 ? token_tiles : kSlotTokens / 8;
}
/// Slots of the token ring that a step takes.
constexpr int slots_of(int token_tiles) { return token_tiles / slot_tiles(token_tiles); }

/// 8 values of a lane for each of its weight rows (0, 8, 16 and 24), times the same 8 values of
/// tokens from `first` on. Sums take turns: a product that follows on the same sum would wait.
template <int kTokenTiles, int kTiles>
__device__ void multiply_piece(const uint4 (&a)[4], const uint4 (&b)[kTiles], int first,
                               Sums<kTokenTiles>& sums) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      multiply_add(sums.values[half][first + j], a[2 * half].x, a[2 * half + 1].x, a[2 * half].y,
                   a[2 * half + 1].y, b[j].x, b[j].y);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      multiply_add(sums.values[half][first + j], a[2 * half].z, a[2 * half + 1].z, a[2 * half].w,
                   a[2 * half + 1].w, b[j].z, b[j].w);
    }
  }
}

/// Where a lane finds its values of a step's tokens.
template <int kTokenTiles>
struct LaneTokens {
  std::uint32_t slots[slots_of(kTokenTiles)];
  std::uint32_t lane_byte;
  int pitch;
  int values_left;  ///< from the lane's first to the end of the depth
};

/// Multiplies 8 values of the lane, `value` values after its first; zeros past the end.
template <int kTokenTiles>
__device__ void multiply_tokens(const uint4 (&a)[4], const LaneTokens<kTokenTiles>& place,
                                int value, Sums<kTokenTiles>& sums) {
  constexpr int kTiles = slot_tiles(kTokenTiles);
  const bool past = value >= place.values_left;
#pragma unroll
  for (int slot = 0; slot < slots_of(kTokenTiles); ++slot) {
    uint4 b[kTiles];
#pragma unroll
    for (int j = 0; j < kTiles; ++j) {
      const auto byte = static_cast<std::uint32_t>(j * 8 * place.pitch + value * 2);
      b[j] = past ? uint4{0, 0, 0, 0} : load_shared(place.slots[slot] + place.lane_byte + byte);
    }
    multiply_piece(a, b, slot * kTiles, sums);
  }
}

/// One stage: 128 bytes of 32 weight rows, times the tokens. `fp8_scale`: of each half, for
/// widen_fp8.
template <DataType kWeights, int kTokenTiles>
__device__ void multiply_stage(std::uint32_t stage, const LaneTokens<kTokenTiles>& place,
                               const __nv_bfloat162 (&fp8_scale)[2], Sums<kTokenTiles>& sums) {
#pragma unroll
  for (int piece = 0; piece < 2; ++piece) {
    uint4 a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = load_shared(stage + static_cast<std::uint32_t>((i * 2 + piece) * 32 * 16));
    }
    const int value = piece * kStageValues<kWeights> / 2;
    if constexpr (kWeights == DataType::kBf16) {
      multiply_tokens(a, place, value, sums);
    } else {
#pragma unroll
      for (int part = 0; part < 2; ++part) {  // 8 of the lane's 16 values
        uint4 wide[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint2 low = widen_fp8(part == 0 ? a[i].x : a[i].z, fp8_scale[i / 2]);
          const uint2 high = widen_fp8(part == 0 ? a[i].y : a[i].w, fp8_scale[i / 2]);
          wide[i] = {low.x, low.y, high.x, high.y};
        }
        multiply_tokens(wide, place, value + part * 8, sums);
      }
    }
  }
}

/// The scales of a warp's weight rows, of both halves, a block of 128 values each. A lane holds one
/// of 32 blocks: a load in every stage would be waited for.
template <DataType kWeights>
class ScaleRow {
 public:
  __device__ ScaleRow(const ExpertParams& params, const Tile& tile, int high) {
    if constexpr (kWeights == DataType::kFp8) {
      const ExpertProduct& product = product_of(params, tile.is_up);
      const float* const* slots =
          tile.is_up ? params.weights.gate_up_scales : params.weights.down_scales;
      blocks_ = (product.depth + 127) / 128;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        rows_[half] =
            slots[tile.group.slot] + weight_row(product, tile, high, 16 * half) / 128 * blocks_;
      }
      load(0);
    }
  }

  /// All lanes, in rising order of `block`.
  __device__ float at(int half, int block) {
    if (block >= loaded_ + 32) load(block / 32 * 32);
    return __shfl_sync(0xffffffffU, values_[half], block % 32);
  }

 private:
  __device__ void load(int first) {
    loaded_ = first;
    const int block = min(first + static_cast<int>(threadIdx.x) % 32, blocks_ - 1);
#pragma unroll
    for (int half = 0; half < 2; ++half) values_[half] = rows_[half][block];
  }

  const float* rows_[2];
  float values_[2];
  int blocks_;
  int loaded_ = 0;
};

}  // namespace metro::ep::cuda
