// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/expert_geometry.hpp"

/// How the Hopper kernel cuts tiles. A block has two warpgroups that multiply, each by blocks of 64
/// weight rows: 32 output features of the first product (gate and up), 64 of the second.
namespace metro::ep::cuda::hopper {

struct HopperShape {
  int tokens;  ///< that a tile has room for
  int high;    ///< blocks of 64 rows of each warpgroup
  int deep;    ///< 2: the warpgroups share the depth of one block
};

/// Few tokens: low tiles, which spread small experts over the whole GPU. Many: high ones, since
/// every tile reads the tokens again. In fp8 the first product makes 128 features at once, which
/// share a scale. A tile of the first product is as many times one of the second for all sizes.
constexpr HopperShape hopper_shape(bool fp8, bool is_up, int size) noexcept {
  const int tokens = 8 << size;
  if (fp8) return {tokens, is_up ? 2 : 1, 1};
  if (size <= 1) return {tokens, 1, 2};
  return {tokens, size == 4 ? 2 : 1, 1};
}

inline constexpr int kMultiplyGroups = 2;  ///< warpgroups that multiply
inline constexpr int kBlockRows = 64;

constexpr int block_features(bool is_up) noexcept { return is_up ? kBlockRows / 2 : kBlockRows; }

/// The tile's block that a warpgroup multiplies as its `high`-th.
constexpr int block_of(const HopperShape& shape, int high, int warpgroup) noexcept {
  return shape.deep == 2 ? 0 : high * kMultiplyGroups + warpgroup;
}

}  // namespace metro::ep::cuda::hopper
