// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/expert_tiles.cuh"

/// Tiles of the expert kernel, and how their weights get to shared memory (expert_kernel.cu).
namespace metro::ep::gpu {

inline constexpr int kWarps = 8;
inline constexpr int kThreads = 32 * kWarps;
inline constexpr int kStages = 4;
inline constexpr int kStageBytes = 128;  // of a row
inline constexpr int kPieces = 8;        // 16-byte loads of a lane for a stage: 2 of each of 4 rows
inline constexpr int kWarpBytes = kStages * kPieces * 32 * 16;
inline constexpr int kSumStride = 9;  // 8 tokens, and one to spread the banks
inline constexpr int kSumFloats = 2 * 16 * kSumStride;
inline constexpr int kFixedBytes = kWarps * (kWarpBytes + kSumFloats * 4);

/// Where a tile lies; the same for all threads of a block.
struct Tile {
  bool is_up;
  int group_index;
  ExpertGroup group;
  int deep;   ///< warps that share its depth
  int first;  ///< output feature
};

/// Finds tiles by their number, which must not fall from call to call.
class TileFinder {
 public:
  __device__ TileFinder(const ExpertParams& params, const std::int32_t* ends, int num_groups)
      : params_(params), ends_(ends), num_groups_(num_groups) {}

  __device__ Tile find(int number) {
    while (number >= ends_[at_]) ++at_;
    Tile tile;
    tile.is_up = at_ < num_groups_;
    tile.group_index = tile.is_up ? at_ : at_ - num_groups_;
    tile.group = params_.plan.groups[tile.group_index];
    const ExpertProduct& product = tile.is_up ? params_.up : params_.down;
    const int size = token_class(tile.group.count);
    tile.deep = product.warps_deep[size];
    tile.first =
        (number - ends_[at_] + product.tiles[size]) * (tile.is_up ? 16 : 32) * (kWarps / tile.deep);
    return tile;
  }

 private:
  const ExpertParams& params_;
  const std::int32_t* ends_;  // [2 * groups] of the first product, then of the second
  int num_groups_;
  int at_ = 0;
};

/// Row of the weight matrix that is row `row` (0 to 31) of this warp's part of a tile. The first
/// product's upper half is the gate, its lower half the matching rows of the up projection.
inline __device__ int weight_row(const ExpertProduct& product, const Tile& tile, int warp_high,
                                 int row) {
  if (!tile.is_up) return min(tile.first + warp_high * 32 + row, product.features - 1);
  const int feature = min(tile.first + warp_high * 16 + row % 16, product.features - 1);
  return row < 16 ? feature : product.features + feature;
}

/// The warp's place in the stream of weights that it copies.
template <int kValueBytes>
class Copier {
 public:
  __device__ Copier(const ExpertParams& params, const TileFinder& finder, int num_tiles,
                    std::uint32_t ring)
      : params_(params), finder_(finder), num_tiles_(num_tiles), ring_(ring) {
    tile_ = static_cast<int>(blockIdx.x);
    open();
  }

  /// Starts the copies of one stage (none after the last tile), and ends the stage.
  __device__ void next() {
    if (tile_ < num_tiles_) {
      const std::uint32_t to = ring_ + static_cast<std::uint32_t>(stage_ * kPieces * 32 * 16);
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const int byte = byte_ + piece % 2 * (kStageBytes / 2);
        const bool past = byte >= row_bytes_;
        copy_async(to + static_cast<std::uint32_t>(piece * 32 * 16),
                   rows_[piece / 2] + (past ? 0 : byte), past);
      }
      byte_ += step_;
      if (byte_ >= end_) {
        tile_ += static_cast<int>(gridDim.x);
        open();
      }
      stage_ = stage_ + 1 == kStages ? 0 : stage_ + 1;
    }
    end_copy_stage();
  }

 private:
  __device__ void open() {
    if (tile_ >= num_tiles_) return;
    const Tile tile = finder_.find(tile_);
    const ExpertProduct& product = tile.is_up ? params_.up : params_.down;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int deep = warp % tile.deep;
    const void* const* slots = tile.is_up ? params_.weights.gate_up : params_.weights.down;
    const auto* matrix = static_cast<const char*>(slots[tile.group.slot]);
    row_bytes_ = product.depth * kValueBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = weight_row(product, tile, warp / tile.deep, i * 8 + lane / 4);
      rows_[i] = matrix + static_cast<std::size_t>(row) * static_cast<std::size_t>(row_bytes_);
    }
    const int lane_byte = lane % 4 * 16;
    byte_ = deep * kStageBytes + lane_byte;
    step_ = tile.deep * kStageBytes;
    end_ = (row_bytes_ + kStageBytes - 1) / kStageBytes * kStageBytes;
  }

  const ExpertParams& params_;
  TileFinder finder_;
  int num_tiles_;
  std::uint32_t ring_;
  int stage_ = 0;
  int tile_;
  const char* rows_[4];  // at offsets 0, 8, 16 and 24 from the lane's own
  int row_bytes_;
  int byte_;
  int step_;
  int end_;
};

}  // namespace metro::ep::gpu
