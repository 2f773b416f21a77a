// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/layer_table.hpp"
#include "cuda/warp_macros.hpp"
#include "metro/cuda/engine_maps.hpp"

/// The rules of EngineMaps for one id or expert; they run on the CPU too, for their tests.
namespace metro::cuda {

/// The token hash of routing, and of vLLM.
METRO_DEVICE std::uint32_t hash_of(std::uint32_t row) { return row * 2654435769U; }

/// Whether the engine lists this replica for the expert.
METRO_DEVICE bool is_listed(const EngineMaps& maps, int expert, std::int64_t slot) {
  const std::int64_t* row = maps.expert_to_replicas + expert * maps.row_stride;
  const auto count = static_cast<int>(maps.num_replicas_of[expert]);
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (int r = 0; r < count; ++r) {
    if (row[r] == slot) return true;
  }
  return false;
}

/// Whether the engine lists all replicas that a router with this table could choose for the expert.
/// It does not depend on what is chosen, so a kernel can look while it solves.
METRO_DEVICE bool agrees(const EngineMaps& maps, const TableLayout& layout,
                         const std::uint32_t* table, int expert) {
  const std::uint32_t list = table[layout.lists + expert];
  const std::uint32_t* entry = table + layout.entries + (list & 0xFFFFU);
#ifdef __CUDACC__
#pragma unroll 1
#endif
  for (std::uint32_t i = 0; i < list >> 16; ++i) {
    if (!is_listed(maps, expert, static_cast<std::int64_t>(entry[i] & 0xFFFFU))) return false;
  }
  return true;
}

/// The engine's own choice.
METRO_DEVICE std::int64_t hashed_replica(const EngineMaps& maps, int expert, std::uint32_t row) {
  const auto count = static_cast<std::uint32_t>(maps.num_replicas_of[expert]);
  if (count == 0) return -1;
  return maps.expert_to_replicas[expert * maps.row_stride + hash_of(row) % count];
}

/// The row whose ids a row has: its own, or for padding a valid one.
METRO_DEVICE int source_row(int row, int num_valid_rows) {
  return row < num_valid_rows || num_valid_rows == 0 ? row : row % num_valid_rows;
}

/// What id `index` of a batch adds to the checksum when `slot` serves it. Mixed, so that two
/// differences do not cancel.
METRO_DEVICE std::uint64_t checksum_term(int index, std::int64_t slot) {
  std::uint64_t term = (static_cast<std::uint64_t>(index) + 1) * 0x1E3779B97F4A7C15ULL +
                       static_cast<std::uint64_t>(slot + 2) * 0x3F58476D1CE4E5B9ULL;
  term ^= term >> 31;
  return term * 0x14D049BB133111EBULL;
}

}  // namespace metro::cuda
