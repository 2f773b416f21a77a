// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// What the permutation leaves on the device for the two kernels after it.
namespace metro::ep::cuda {

/// Tokens of one local slot that share each load of its weights. An expert with more than a kernel
/// takes at once gets several groups.
struct ExpertGroup {
  std::int32_t slot;   ///< local
  std::int32_t begin;  ///< first row
  std::int32_t count;  ///< 1 to ExpertGeometry::group_tokens
};

/// Device pointers; "row" is the place of an assignment in the order of slots, and of tokens in a
/// slot.
struct ExpertPlan {
  std::int32_t* row_to_assignment;  ///< [rows] index into the [tokens][topk] ids
  std::int32_t* assignment_to_row;  ///< [tokens * topk]; -1: not served here
  ExpertGroup* groups;              ///< in slot order; only activated slots have any
  std::int32_t* num_groups;         ///< [1]
  std::int32_t* up_ends;            ///< [groups] tiles of the first product up to here
  std::int32_t* down_ends;          ///< [groups] tiles of the second product up to here
  std::int32_t* tiles_done;  ///< [groups] finished tiles of the first product; 0 between runs
  unsigned* feeds_done;      ///< [1] warps that need tiles_done no more; 0 between runs
};

constexpr int max_groups(int max_assignments, int num_slots, int group_tokens) noexcept {
  const int full = max_assignments / group_tokens;
  const int partial = max_assignments < num_slots ? max_assignments : num_slots;
  return full + partial;
}

}  // namespace metro::ep::cuda
