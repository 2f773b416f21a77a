// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/hopper_feeds.cuh"
#include "ep/cuda/wgmma.cuh"

/// The sums of a tile, by one warpgroup.
namespace metro::ep::cuda::hopper {

constexpr int halves_of(int tokens) { return tokens > kSlotTokens ? 2 : 1; }
constexpr int sums_of(int tokens) { return (tokens > kSlotTokens ? kSlotTokens : tokens) / 2; }

/// [high][half of the tokens][sum], as `product` has them.
template <int kTokens, int kHigh>
using TileSums = float[kHigh][halves_of(kTokens)][sums_of(kTokens)];

/// Where a lane stands in its warpgroup.
struct LanePlace {
  int warpgroup;
  int warp;  ///< of 4
  int lane;
  [[nodiscard]] __device__ bool leads() const { return lane == 0; }
};

/// The tokens of a step: one or two slots.
template <int kTokens>
struct TokenStep {
  std::uint32_t bytes[halves_of(kTokens)];
  std::uint32_t empty[halves_of(kTokens)];

  __device__ explicit TokenStep(TokenPlace& slot) {
#pragma unroll
    for (int half = 0; half < halves_of(kTokens); ++half) {
      bytes[half] = slot.bytes();
      empty[half] = slot.empty();
      slot.wait_full();
      slot.next();
    }
    show_to_products();  // ordinary copies brought them
  }
  __device__ void release() const {
#pragma unroll
    for (int half = 0; half < halves_of(kTokens); ++half) arrive(empty[half]);
  }
};

/// bf16: the products of all slabs follow each other on the same sums.
template <int kTokens, int kHigh, int kDeep>
__device__ void multiply_bf16(int depth, const LanePlace& place, WeightPlace& weights,
                              TokenPlace& tokens, TileSums<kTokens, kHigh>& sums) {
  const int slabs = count_slabs(depth * 2);
  const auto my_half = static_cast<std::uint32_t>(place.warpgroup * kHalfSlotBytes);
  const auto my_slab =
      static_cast<std::uint32_t>(kDeep == 2 ? place.warpgroup * kTokens * kSlabBytes : 0);
  for (int slab = 0; slab < slabs; slab += kDeep) {
    const TokenStep<kTokens> step(tokens);
    std::uint32_t used[kHigh];
#pragma unroll
    for (int high = 0; high < kHigh; ++high) {
      used[high] = weights.empty();
      weights.wait_full();
      begin_products();
#pragma unroll
      for (int half = 0; half < halves_of(kTokens); ++half) {
        slab_product<DataType::kBf16>(sums[high][half], weights.bytes() + my_half,
                                      step.bytes[half] + my_slab, true);
      }
      commit_products();
      weights.next();
    }
    wait_products<0>();
    if (place.leads()) {
#pragma unroll
      for (int high = 0; high < kHigh; ++high) arrive(used[high]);
      step.release();
    }
  }
}

/// The scales of a warp's two eights of rows in each of its blocks. A lane holds one of 32 slabs:
/// a load for every slab would be waited for. (Features come in sixteens, and scales change at
/// multiples of 128: eight rows share one.)
template <int kHigh>
class WeightScales {
 public:
  __device__ WeightScales(const ExpertParams& params, const Tile& tile, const HopperShape& shape,
                          const LanePlace& place)
      : lane_(place.lane) {
    const ExpertProduct& product = product_of(params, tile.is_up);
    const float* const* slots =
        tile.is_up ? params.weights.gate_up_scales : params.weights.down_scales;
    from_ = slots[tile.group.slot];
    groups_ = (product.depth + 127) / 128;
#pragma unroll
    for (int high = 0; high < kHigh; ++high) {
      const int feature = tile.first +
                          block_of(shape, high, place.warpgroup) * block_features(tile.is_up) +
                          place.warp * (tile.is_up ? 8 : 16);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        int row = min(feature + (tile.is_up ? 0 : 8 * i), product.features - 1);
        if (tile.is_up && i == 1) row += product.features;
        begins_[high][i] = row / 128 * groups_;
      }
    }
    load(0);
  }

  /// All lanes, in rising order of `slab`.
  __device__ void find(int slab, float (&scales)[kHigh][2]) {
    if (slab >= loaded_ + 32) load(slab / 32 * 32);
#pragma unroll
    for (int high = 0; high < kHigh; ++high) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scales[high][i] = __shfl_sync(0xffffffffU, values_[high][i], slab % 32);
      }
    }
  }

 private:
  __device__ void load(int first) {
    loaded_ = first;
    const int at = min(first + lane_, groups_ - 1);
#pragma unroll
    for (int high = 0; high < kHigh; ++high) {
#pragma unroll
      for (int i = 0; i < 2; ++i) values_[high][i] = from_[begins_[high][i] + at];
    }
  }

  const float* from_;
  int begins_[kHigh][2];
  float values_[kHigh][2];
  int groups_;
  int loaded_ = 0;
  int lane_;
};

/// sums += part * scales of the tokens * scales of the weights' two rows, which the second product
/// has in common. A scale of 0 makes its block count for nothing, whatever its bytes are.
template <bool kUp, int kSums>
__device__ __forceinline__ void add_scaled(const float (&part)[kSums], std::uint32_t token_scales,
                                           const float (&weight_scales)[2], float (&sums)[kSums]) {
  const bool live[2] = {weight_scales[0] != 0, weight_scales[kUp ? 1 : 0] != 0};
#pragma unroll
  for (int i = 0; i < kSums; i += 4) {
    const float2 token = load_shared_pair(token_scales + static_cast<std::uint32_t>(i * 8));
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const float scale = weight_scales[kUp ? row : 0];
      if (live[row]) {
        sums[i + 2 * row] = fmaf(part[i + 2 * row], scale * token.x, sums[i + 2 * row]);
        sums[i + 2 * row + 1] = fmaf(part[i + 2 * row + 1], scale * token.y, sums[i + 2 * row + 1]);
      }
    }
  }
}

/// fp8: each slab's products begin anew and are added with their scales, by pieces of up to 64
/// tokens: while one is added, the next is multiplied, if registers are left for both.
template <int kTokens, int kHigh, bool kUp>
__device__ void multiply_fp8(const ExpertParams& params, const Tile& tile, const LanePlace& place,
                             WeightPlace& weights, TokenPlace& tokens,
                             TileSums<kTokens, kHigh>& sums) {
  constexpr int kHalves = halves_of(kTokens);
  constexpr int kParts = kHigh * kHalves;
  constexpr int kAhead = kHalves == 1 && kParts > 1 ? 1 : 0;
  const int slabs = count_slabs(product_of(params, tile.is_up).depth);
  const auto my_half = static_cast<std::uint32_t>(place.warpgroup * kHalfSlotBytes);
  const auto my_scales = static_cast<std::uint32_t>(kTokenSlotBytes + place.lane % 4 * 2 * 4);
  WeightScales<kHigh> scales(params, tile, {kTokens, kHigh, 1}, place);
  for (int slab = 0; slab < slabs; ++slab) {
    float weight_scales[kHigh][2];
    scales.find(slab, weight_scales);
    const TokenStep<kTokens> step(tokens);
    float parts[1 + kAhead][sums_of(kTokens)];
    std::uint32_t used[kHigh];
    const auto multiply = [&](int part) {
      const int half = part % kHalves;
      if (half == 0) weights.wait_full();
      begin_products();
      slab_product<DataType::kFp8>(parts[part % (1 + kAhead)], weights.bytes() + my_half,
                                   step.bytes[half], false);
      commit_products();
      if (half == kHalves - 1) {
        used[part / kHalves] = weights.empty();
        weights.next();
      }
    };
    if constexpr (kAhead == 1) multiply(0);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      if (part + kAhead < kParts) {
        multiply(part + kAhead);
        wait_products<kAhead>();
      } else {
        wait_products<0>();
      }
      const int high = part / kHalves;
      const int half = part % kHalves;
      if (half == kHalves - 1 && place.leads()) arrive(used[high]);
      add_scaled<kUp>(parts[part % (1 + kAhead)], step.bytes[half] + my_scales, weight_scales[high],
                      sums[high][half]);
    }
    __syncwarp();
    if (place.leads()) step.release();
  }
}

}  // namespace metro::ep::cuda::hopper
