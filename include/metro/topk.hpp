// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace metro {

/// Expert id of a masked (token, k): it passes through and activates nothing.
inline constexpr std::int32_t kMasked = -1;

/// The experts that each token of one layer's global batch chose; a view, row-major [tokens][topk].
struct TopkView {
  std::span<const std::int32_t> ids;
  int num_tokens = 0;
  int topk = 0;
};

/// As TopkView, owning its ids.
struct TopkBatch {
  std::vector<std::int32_t> ids;
  int num_tokens = 0;
  int topk = 0;

  [[nodiscard]] TopkView view() const noexcept { return {ids, num_tokens, topk}; }

  /// Throws Error{kInput} naming row, column and value unless every id is -1 or below
  /// `num_experts`, and `ids` has num_tokens * topk entries.
  void validate(int num_experts) const;
};

/// Source rank (the GPU whose token it is) of row `row` of `num_tokens`: floor(row * G / T).
[[nodiscard]] constexpr int source_rank(std::int64_t row, std::int64_t num_tokens,
                                        int num_gpus) noexcept {
  return static_cast<int>(row * num_gpus / num_tokens);
}

/// The token hash that engines spread replicas with: row * 2654435769 mod 2^32.
[[nodiscard]] constexpr std::uint32_t token_hash(std::uint32_t row) noexcept {
  return row * 2654435769U;
}

}  // namespace metro
