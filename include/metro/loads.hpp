// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace metro {

/// Tokens that each expert got, by layer: finite and >= 0, row-major [layers][experts].
struct Loads {
  int num_layers = 0;
  int num_experts = 0;
  std::vector<double> tokens;

  [[nodiscard]] std::span<const double> layer(int index) const {
    const auto width = static_cast<std::size_t>(num_experts);
    return std::span<const double>(tokens).subspan(static_cast<std::size_t>(index) * width, width);
  }

  /// Throws Error{kInput} naming layer, expert and value unless all loads are finite and >= 0.
  void validate() const;
};

}  // namespace metro
