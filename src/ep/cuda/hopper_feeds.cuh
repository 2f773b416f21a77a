// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/copy_engine.cuh"
#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_ring.cuh"
#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/hopper_shape.hpp"
#include "ep/cuda/weight_maps.hpp"
#include "ep/cuda/wgmma.cuh"
#include "metro/model.hpp"

/// The warps of the Hopper kernel that bring weights and tokens to shared memory, as far ahead as
/// there is room: weights depend on nothing, tokens of the second product on the first.
namespace metro::ep::cuda::hopper {

inline constexpr int kWeightSlots = 7;
inline constexpr int kHalfSlotBytes = kBlockRows * kSlabBytes;  ///< of one warpgroup
inline constexpr int kTokenSlots = 10;
inline constexpr int kSlotTokens = 64;  ///< more tokens take two slots
inline constexpr int kTokenSlotBytes = kSlotTokens * kSlabBytes;
inline constexpr int kTokenWarps = 2;     ///< that bring tokens
inline constexpr int kFeedThreads = 128;  ///< a warpgroup: one thread brings weights

using WeightPlace = RingPlace<kWeightSlots, kMultiplyGroups * kHalfSlotBytes>;
/// With the tokens' scales behind them.
using TokenPlace = RingPlace<kTokenSlots, kTokenSlotBytes + 1024>;

template <DataType kWeights>
constexpr int kValueBytes = kWeights == DataType::kBf16 ? 2 : 1;

constexpr int count_slabs(int row_bytes) noexcept {
  return (row_bytes + kSlabBytes - 1) / kSlabBytes;
}

/// Brings the weights of all tiles: one thread, by the copy engine.
template <DataType kWeights>
class WeightFeed {
 public:
  __device__ WeightFeed(const ExpertParams& params, WeightPlace slot)
      : params_(params), slot_(slot) {}

  __device__ void run(TileFinder finder, TileQueue queue) {
    for (; !queue.done(); queue.next()) bring(finder.find(queue.number()));
  }

 private:
  __device__ void bring(const Tile& tile) {
    const HopperShape shape = hopper_shape(kWeights == DataType::kFp8, tile.is_up, tile.size);
    const WeightMaps& maps = params_.weights.maps[tile.group.slot];
    const int slabs = count_slabs(product_of(params_, tile.is_up).depth * kValueBytes<kWeights>);
    for (int slab = 0; slab < slabs; slab += shape.deep) {
      for (int high = 0; high < shape.high; ++high) {
        slot_.wait_empty();
        expect_bytes(slot_.full(), kMultiplyGroups * kHalfSlotBytes);
#pragma unroll
        for (int group = 0; group < kMultiplyGroups; ++group) {
          const int first = tile.first + block_of(shape, high, group) * block_features(tile.is_up);
          const int value =
              (slab + (shape.deep == 2 ? group : 0)) * (kSlabBytes / kValueBytes<kWeights>);
          const std::uint32_t to =
              slot_.bytes() + static_cast<std::uint32_t>(group * kHalfSlotBytes);
          if (tile.is_up) {
            copy_box(to, &maps.gate_up, value, 0, 0, first / 8, slot_.full());
          } else {
            copy_box(to, &maps.down, value, first, slot_.full());
          }
        }
        slot_.next();
      }
    }
  }

  const ExpertParams& params_;
  WeightPlace slot_;
};

/// Brings the tokens of each step, which all warpgroups share. A lane brings one piece of every 8th
/// row of a slot, so that where its rows begin is found once a tile.
template <DataType kWeights>
class TokenFeed {
 public:
  /// `warp`: its number among the kTokenWarps.
  __device__ TokenFeed(const ExpertParams& params, TokenPlace slot, int warp)
      : params_(params),
        slot_(slot),
        piece_(static_cast<int>(threadIdx.x) % 8),
        row_(warp * 4 + static_cast<int>(threadIdx.x) % 32 / 8),
        thread_(warp * 32 + static_cast<int>(threadIdx.x) % 32) {}

  __device__ void run(TileFinder finder, TileQueue queue) {
    for (; !queue.done(); queue.next()) {
      const Tile tile = finder.find(queue.number());
      if (!tile.is_up) wait_for_first_product(params_, tile);
      bring(tile);
    }
    end_feed(params_, kTokenWarps);
  }

 private:
  static constexpr bool kFp8 = kWeights == DataType::kFp8;
  static constexpr int kStride = kTokenWarps * 4;          // from a lane's row to its next
  static constexpr int kRows = 2 * kSlotTokens / kStride;  // of a lane, in two slots
  static constexpr std::uint32_t kNone = 0xffffffffU;

  /// Row of x, or of the activations, that is this token of the group.
  __device__ std::uint32_t source_row(const Tile& tile, int token) const {
    const int row = tile.group.begin + token;
    return static_cast<std::uint32_t>(
        tile.is_up ? params_.plan.row_to_assignment[row] / params_.topk : row);
  }

  __device__ void bring(const Tile& tile) {
    const HopperShape shape = hopper_shape(kFp8, tile.is_up, tile.size);
    const QuantizedRows& quantized =
        tile.is_up ? params_.quantized_tokens : params_.quantized_activations;
    const char* from = nullptr;
    int pitch = 0;  // in bytes
    if constexpr (kFp8) {
      from = reinterpret_cast<const char*>(quantized.values);
      pitch = quantized.pitch;
    } else {
      from = reinterpret_cast<const char*>(tile.is_up ? params_.tokens : params_.activations);
      pitch = (tile.is_up ? params_.hidden : params_.activation_stride) * 2;
    }
    // Rows of a slot are its tokens, or those of one slab and then those of the next.
    const int room = min(shape.tokens, kSlotTokens);
    std::uint32_t begins[kRows];  // in bytes
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int row = i * kStride + row_;
      const bool second = shape.deep == 2 && row >= room;
      const int token = second ? row - room : row;
      const bool used = token < tile.group.count && (shape.deep == 1 || token < room);
      begins[i] = kNone;
      if (used) {
        begins[i] =
            source_row(tile, token) * static_cast<unsigned>(pitch) + (second ? kSlabBytes : 0);
      }
    }
    const float* scales[2] = {};
    if constexpr (kFp8) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int token = half * kSlotTokens + thread_;
        if (token < tile.group.count) scales[half] = quantized.scales + source_row(tile, token);
      }
    }
    const int row_bytes = product_of(params_, tile.is_up).depth * kValueBytes<kWeights>;
    const int step_bytes = shape.deep * kSlabBytes;
    const int whole = row_bytes / step_bytes;
    const std::size_t scale_step = static_cast<std::size_t>(quantized.scale_pitch * shape.deep);
    const bool two_slots = tile.group.count > kSlotTokens;
    from += piece_ * 16;
    for (int step = 0; step < whole; ++step) {
      bring_slot<0>(begins, scales[0], from);
      if (two_slots) bring_slot<1>(begins, scales[1], from);
      from += step_bytes;
      if constexpr (kFp8) {
        scales[0] += scales[0] != nullptr ? scale_step : 0;
        scales[1] += scales[1] != nullptr ? scale_step : 0;
      }
    }
    const int left = row_bytes - whole * step_bytes;
    if (left == 0) return;
    bring_last_slot<0>(begins, scales[0], from, left, room);
    if (two_slots) bring_last_slot<1>(begins, scales[1], from, left, room);
  }

  template <int kHalf>
  __device__ __forceinline__ void bring_slot(const std::uint32_t (&begins)[kRows],
                                             const float* scales, const char* from) {
    slot_.wait_empty();
    const std::uint32_t to = slot_.bytes() + swizzled(row_, piece_);
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) {
      const std::uint32_t begin = begins[kHalf * (kRows / 2) + i];
      copy_async_if(begin != kNone, to + static_cast<std::uint32_t>(i * kStride * kSlabBytes),
                    from + begin);
    }
    finish_slot(scales);
  }

  /// `left` bytes of each row are there, the rest of the slabs is zeros.
  template <int kHalf>
  __device__ void bring_last_slot(const std::uint32_t (&begins)[kRows], const float* scales,
                                  const char* from, int left, int room) {
    slot_.wait_empty();
    const std::uint32_t to = slot_.bytes() + swizzled(row_, piece_);
#pragma unroll
    for (int i = 0; i < kRows / 2; ++i) {
      const std::uint32_t begin = begins[kHalf * (kRows / 2) + i];
      if (begin == kNone) continue;
      const int second = i * kStride + row_ >= room ? kSlabBytes : 0;
      const bool past = piece_ * 16 + second >= left;
      copy_async(to + static_cast<std::uint32_t>(i * kStride * kSlabBytes),
                 from - (past ? piece_ * 16 + second : 0) + begin, past);
    }
    finish_slot(scales);
  }

  __device__ void finish_slot(const float* scales) {
    if constexpr (kFp8) {
      copy_word_async_if(scales != nullptr,
                         slot_.bytes() + static_cast<std::uint32_t>(kTokenSlotBytes + thread_ * 4),
                         scales);
    }
    arrive_after_copies(slot_.full());
    slot_.next();
  }

  const ExpertParams& params_;
  TokenPlace slot_;
  int piece_;   // of 16 bytes, of a row's slab
  int row_;     // of kStride
  int thread_;  // of the warps that bring tokens
};

}  // namespace metro::ep::cuda::hopper
