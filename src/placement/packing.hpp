// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace metro {

/// The weights as EPLB has them; beyond float's range, infinity.
std::vector<float> to_float32(std::span<const double> load);

/// Which pack each item goes to, and how many items that pack held before it.
struct Packing {
  std::vector<std::int32_t> pack;  ///< [items]
  std::vector<std::int32_t> rank;  ///< [items]
};

/// EPLB's balanced packing: items by descending weight, equal ones in their own order, each to the
/// lightest pack with room, ties to the lowest pack. As many items as packs: item i to pack i.
///
/// Every pack gets the same number of items; where the packs do not divide the items (never so in
/// EPLB), the floor of it or one more. Sums in float32, as the original, so that ties fall the same
/// way. O(n log n).
Packing pack_balanced(std::span<const float> weight, int num_packs);

}  // namespace metro
