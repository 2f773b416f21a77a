// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How a kernel cuts the two products of an expert into tiles: what the permutation plans by.
namespace metro::ep::cuda {

/// Tiles are cut by how many tokens they carry along: up to 8, 16, 32, 64 or 128.
inline constexpr int kTokenClasses = 5;
constexpr int token_class(int count) noexcept {
  return count <= 8 ? 0 : count <= 16 ? 1 : count <= 32 ? 2 : count <= 64 ? 3 : 4;
}

/// One of the two products, by class of tokens.
struct ExpertProduct {
  int features;                      ///< outputs: intermediate, then hidden
  int depth;                         ///< values to a dot product: hidden, then intermediate
  int deep[kTokenClasses];           ///< parts of a block that share the depth of a tile
  int tile_features[kTokenClasses];  ///< outputs of a tile
  int tiles[kTokenClasses];          ///< of all features
};

struct ExpertGeometry {
  ExpertProduct up;  ///< gate and up together
  ExpertProduct down;
  int group_tokens;  ///< most tokens that read a tile of weights once
  int busy_halves;   ///< half tiles for each block that keep it busy: fewer, and groups are cut
  int extra_turns;   ///< of tiles of the second product, for blocks with one less of the first
};

/// The tiles of `features` outputs, `tile_features` of them each.
constexpr int count_tiles(int features, int tile_features) noexcept {
  return (features + tile_features - 1) / tile_features;
}

}  // namespace metro::ep::cuda
