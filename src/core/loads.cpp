// SPDX-License-Identifier: Apache-2.0
#include "metro/loads.hpp"

#include <fmt/format.h>

#include <cmath>

#include "metro/error.hpp"

namespace metro {

void Loads::validate() const {
  const auto width = static_cast<std::size_t>(num_experts);
  if (num_layers < 1 || num_experts < 1 ||
      tokens.size() != static_cast<std::size_t>(num_layers) * width) {
    throw Error(ErrorCode::kInput,
                fmt::format("loads have {} entries, must be {} layers x {} experts", tokens.size(),
                            num_layers, num_experts));
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (!std::isfinite(tokens[i]) || tokens[i] < 0) {
      throw Error(ErrorCode::kInput, fmt::format("loads[{}][{}] is {}, must be finite and >= 0",
                                                 i / width, i % width, tokens[i]));
    }
  }
}

}  // namespace metro
