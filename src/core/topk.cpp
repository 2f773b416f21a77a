// SPDX-License-Identifier: Apache-2.0
#include "metro/topk.hpp"

#include <fmt/format.h>

#include "metro/error.hpp"

namespace metro {

void TopkBatch::validate(int num_experts) const {
  const auto expected = static_cast<std::size_t>(num_tokens) * static_cast<std::size_t>(topk);
  if (num_tokens < 0 || topk < 0 || ids.size() != expected) {
    throw Error(ErrorCode::kInput,
                fmt::format("{} ids, must be {} tokens x {}", ids.size(), num_tokens, topk));
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < kMasked || ids[i] >= num_experts) {
      const auto width = static_cast<std::size_t>(topk);
      throw Error(ErrorCode::kInput,
                  fmt::format("[{}][{}] is {}, must be an expert 0..{} or -1 (masked)", i / width,
                              i % width, ids[i], num_experts - 1));
    }
  }
}

}  // namespace metro
