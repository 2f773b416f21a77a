// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace metro::ep {

/// "rank 2", or "ranks 1, 2".
inline std::string rank_names(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank" : "ranks";
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    text += (i == 0 ? " " : ", ") + std::to_string(ranks[i]);
  }
  return text;
}

}  // namespace metro::ep
