// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_kernels.hpp"

/// Which block computes what, and in which order.
namespace metro::ep::cuda {

__device__ inline const ExpertProduct& product_of(const ExpertParams& params, bool is_up) {
  return is_up ? params.geometry.up : params.geometry.down;
}

/// Where a tile lies; the same for all threads of a block.
struct Tile {
  bool is_up;
  int group_index;
  ExpertGroup group;
  int size;   ///< class of tokens
  int deep;   ///< parts of the block that share its depth
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
    const ExpertProduct& product = product_of(params_, tile.is_up);
    tile.size = token_class(tile.group.count);
    tile.deep = product.deep[tile.size];
    tile.first =
        (number - ends_[at_] + product.tiles[tile.size]) * product.tile_features[tile.size];
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
    // With less than a tile for each block, no group is done before all are.
    const bool turns = busy != 0 && up_tiles > blocks;
    extra_end_ = min(up_tiles + (turns ? extra_turns * spare_ : 0), all_tiles);
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

/// By a warp that brings a tile's tokens: all blocks are resident, and each does its tiles of the
/// first product first, so this ends.
__device__ inline void wait_for_first_product(const ExpertParams& params, const Tile& tile) {
  const int all = params.geometry.up.tiles[tile.size];
  while (load_acquire(params.plan.tiles_done + tile.group_index) < all) {
  }
  __syncwarp();
}

/// By each of a block's `warps` that bring tokens, at their end. The last of all blocks' warps
/// zeroes the counts, so that a run may follow without a new permutation. Nobody adds to them any
/// more: each group's tiles of the second product have been waited for by one of these warps.
__device__ inline void end_feed(const ExpertParams& params, int warps) {
  const unsigned last = gridDim.x * static_cast<unsigned>(warps) - 1;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned turn = 0;
  __threadfence();
  if (lane == 0) turn = atomicInc(params.plan.feeds_done, last);
  __threadfence();
  if (__shfl_sync(0xffffffffU, turn, 0) != last) return;
  const int num_groups = *params.plan.num_groups;
  for (int i = lane; i < num_groups; i += 32) params.plan.tiles_done[i] = 0;
}

}  // namespace metro::ep::cuda
