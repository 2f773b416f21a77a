// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_schedule.cuh"

/// The stream of weights into shared memory.
namespace metro::ep::cuda {

inline constexpr int kWarps = 8;         ///< that multiply
inline constexpr int kStageBytes = 128;  ///< of a weight row
inline constexpr int kPieces = 8;  ///< 16-byte loads of a lane for a stage: 2 of each of 4 rows
inline constexpr int kWarpStageBytes = kPieces * 32 * 16;

/// Row of the weight matrix that is row `row` (0 to 31) of a warp's part of a tile. The first
/// product's upper half is the gate, its lower half the matching rows of the up projection.
__device__ inline int weight_row(const ExpertProduct& product, const Tile& tile, int warp_high,
                                 int row) {
  if (!tile.is_up) return min(tile.first + warp_high * 32 + row, product.features - 1);
  const int feature = min(tile.first + warp_high * 16 + row % 16, product.features - 1);
  return row < 16 ? feature : product.features + feature;
}

/// A warp's place in the weights of its block's tiles. A lane reads back only what it copied
/// itself, so the copies need no barrier, and they run ahead into tiles that wait for their tokens.
template <int kValueBytes, int kStages>
class WeightRing {
 public:
  /// `ring`: this lane's first byte of the warp's stages in shared memory.
  __device__ WeightRing(const ExpertParams& params, const TileFinder& finder,
                        const TileQueue& queue, std::uint32_t ring)
      : params_(params), finder_(finder), queue_(queue), ring_(ring) {
    open();
#pragma unroll
    for (int i = 0; i < kStages; ++i) copy_next();
  }

  /// Waits for the oldest stage and returns its place.
  __device__ std::uint32_t wait() const {
    wait_copy_stage<kStages - 1>();
    return ring_ + static_cast<std::uint32_t>(stage_ * kWarpStageBytes);
  }

  /// Starts the copies that come kStages later (none after the last tile) over the oldest stage.
  __device__ void copy_next() {
    if (!queue_.done()) {
      const std::uint32_t to = ring_ + static_cast<std::uint32_t>(stage_ * kWarpStageBytes);
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const int byte = byte_ + piece % 2 * (kStageBytes / 2);
        const bool past = byte >= row_bytes_;
        copy_async(to + static_cast<std::uint32_t>(piece * 32 * 16),
                   rows_[piece / 2] + (past ? 0 : byte), past);
      }
      byte_ += step_;
      if (byte_ >= end_) {
        queue_.next();
        open();
      }
    }
    stage_ = stage_ + 1 == kStages ? 0 : stage_ + 1;
    end_copy_stage();
  }

 private:
  __device__ void open() {
    if (queue_.done()) return;
    const Tile tile = finder_.find(queue_.number());
    const ExpertProduct& product = product_of(params_, tile.is_up);
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const void* const* slots = tile.is_up ? params_.weights.gate_up : params_.weights.down;
    const auto* matrix = static_cast<const char*>(slots[tile.group.slot]);
    row_bytes_ = product.depth * kValueBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = weight_row(product, tile, warp / tile.deep, i * 8 + lane / 4);
      rows_[i] = matrix + static_cast<std::size_t>(row) * static_cast<std::size_t>(row_bytes_);
    }
    byte_ = warp % tile.deep * kStageBytes + lane % 4 * 16;
    step_ = tile.deep * kStageBytes;
    end_ = (row_bytes_ + kStageBytes - 1) / kStageBytes * kStageBytes;
  }

  const ExpertParams& params_;
  TileFinder finder_;
  TileQueue queue_;
  std::uint32_t ring_;
  int stage_ = 0;
  const char* rows_[4];  // at offsets 0, 8, 16 and 24 from the lane's own
  int row_bytes_;
  int byte_;
  int step_;
  int end_;
};

}  // namespace metro::ep::cuda
