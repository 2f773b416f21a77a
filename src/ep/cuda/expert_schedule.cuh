// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/expert_kernels.hpp"

/// Which block computes what, and in which order.
namespace metro::ep::cuda {

inline constexpr int kWarps = 8;  ///< that multiply; one more brings the tokens

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

/// Numbers of one block's tiles, rising. Blocks take turns; those that had a tile less of the first
/// product, whose tiles are larger, take the first few of the second.
class TileQueue {
 public:
  __device__ TileQueue(int up_tiles, int all_tiles, int extra_turns)
      : up_tiles_(up_tiles), all_tiles_(all_tiles) {
    const int blocks = static_cast<int>(gridDim.x);
    const int busy = up_tiles % blocks;  // blocks with a tile more
    spare_ = blocks - busy;
    light_ = static_cast<int>(blockIdx.x) - busy;
    extra_end_ = min(up_tiles + (busy == 0 ? 0 : extra_turns * spare_), all_tiles);
    number_ = static_cast<int>(blockIdx.x);
    if (number_ >= up_tiles_) enter_second();
  }

  [[nodiscard]] __device__ bool done() const { return number_ >= all_tiles_; }
  [[nodiscard]] __device__ int number() const { return number_; }

  __device__ void next() {
    if (number_ < up_tiles_) {
      number_ += static_cast<int>(gridDim.x);
      if (number_ >= up_tiles_) enter_second();
    } else if (number_ < extra_end_) {
      number_ += spare_;
      if (number_ >= extra_end_) number_ = extra_end_ + static_cast<int>(blockIdx.x);
    } else {
      number_ += static_cast<int>(gridDim.x);
    }
  }

 private:
  __device__ void enter_second() {
    number_ = up_tiles_ + light_;
    if (light_ < 0 || number_ >= extra_end_) number_ = extra_end_ + static_cast<int>(blockIdx.x);
  }

  int up_tiles_;
  int all_tiles_;
  int extra_end_;  // of the tiles that only light blocks take
  int spare_;
  int light_;  // this block's place among the light ones
  int number_;
};

/// Row of the weight matrix that is row `row` (0 to 31) of a warp's part of a tile. The first
/// product's upper half is the gate, its lower half the matching rows of the up projection.
__device__ inline int weight_row(const ExpertProduct& product, const Tile& tile, int warp_high,
                                 int row) {
  if (!tile.is_up) return min(tile.first + warp_high * 32 + row, product.features - 1);
  const int feature = min(tile.first + warp_high * 16 + row % 16, product.features - 1);
  return row < 16 ? feature : product.features + feature;
}

}  // namespace metro::ep::cuda
