// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_ring.cuh"
#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/portable_weight_ring.cuh"
#include "metro/model.hpp"

/// The stream of tokens into shared memory, a step of all warps at a time.
namespace metro::ep::cuda {

/// Values of a weight row in one stage.
template <DataType kWeights>
constexpr int kStageValues = kStageBytes / (kWeights == DataType::kBf16 ? 2 : 1);

/// A step of more than kSlotTokens tokens takes two slots.
inline constexpr int kSlotTokens = 32;
inline constexpr int kGroupTokens = 64;  ///< most tokens of a group
/// Bytes after a token's, so that the rows that a warp reads together meet in no bank.
template <DataType kWeights>
constexpr int kTokenPad = kWeights == DataType::kBf16 ? 64 : 16;
/// 32 tokens of 2 stages; fewer tokens have at most as many values.
template <DataType kWeights>
constexpr int kTokenSlotBytes =
    kSlotTokens * (2 * 2 * kStageValues<kWeights> + kTokenPad<kWeights>);
inline constexpr int kFeedWarps = 2;

/// Bytes from one token to the next in a slot.
template <DataType kWeights>
__device__ int token_pitch(int deep) {
  return deep * kStageValues<kWeights> * 2 + kTokenPad<kWeights>;
}

/// The warps that bring the tokens of all of this block's tiles, in order, each step as soon as
/// there is room, those of the second product when the first has made them.
template <DataType kWeights, class TokenPlace>
class TokenFeed {
 public:
  /// `warp`: its number among the kFeedWarps.
  __device__ TokenFeed(const ExpertParams& params, TokenPlace slot, int warp)
      : params_(params), slot_(slot), warp_(warp), lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void run(TileFinder finder, TileQueue queue) {
    for (; !queue.done(); queue.next()) {
      const Tile tile = finder.find(queue.number());
      if (!tile.is_up) wait_for_first_product(params_, tile);
      bring(tile);
    }
    end_feed(params_, kFeedWarps);
  }

 private:
  __device__ void bring(const Tile& tile) {
    const __nv_bfloat16* from = tile.is_up ? params_.tokens : params_.activations;
    std::uint32_t rows[kGroupTokens / 32];  // where this lane's tokens begin, in 16 bytes
#pragma unroll
    for (int i = 0; i < kGroupTokens / 32; ++i) {
      const int row = tile.group.begin + min(i * 32 + lane_, tile.group.count - 1);
      rows[i] =
          tile.is_up
              ? static_cast<std::uint32_t>(params_.plan.row_to_assignment[row] / params_.topk) *
                    static_cast<std::uint32_t>(params_.hidden / 8)
              : static_cast<std::uint32_t>(row) *
                    static_cast<std::uint32_t>(params_.activation_stride / 8);
    }
    const ExpertProduct& product = product_of(params_, tile.is_up);
    const int step = tile.deep * kStageValues<kWeights> / 8;  // a power of two
    const int end = product.depth / 8;
    for (int first = 0; first < end; first += step) {
#pragma unroll
      for (int i = 0; i < kGroupTokens / 32; ++i) {
        const int count = min(tile.group.count - i * kSlotTokens, kSlotTokens);
        if (count <= 0) break;
        slot_.wait_empty();
        copy_step(reinterpret_cast<const uint4*>(from), rows[i], count, first, step,
                  min(step, end - first));
        arrive_after_copies(slot_.full());
        slot_.next();
      }
    }
  }

  /// `count` tokens of `step` pieces of 16 bytes, of which `valid` exist.
  __device__ void copy_step(const uint4* from, std::uint32_t row, int count, int first, int step,
                            int valid) const {
    const int shift = 31 - __clz(step);
    const int pitch = token_pitch<kWeights>(step * 8 / kStageValues<kWeights>);
    for (int at = warp_ * 32; at < count << shift; at += kFeedWarps * 32) {
      const int token = (at + lane_) >> shift;
      const int piece = (at + lane_) & (step - 1);
      const std::uint32_t begin = __shfl_sync(0xffffffffU, row, token & 31);
      if (token < count && piece < valid) {
        copy_async(slot_.bytes() + static_cast<std::uint32_t>(token * pitch + piece * 16),
                   from + begin + first + piece, false);
      }
    }
  }

  const ExpertParams& params_;
  TokenPlace slot_;
  int warp_;
  int lane_;
};

}  // namespace metro::ep::cuda
