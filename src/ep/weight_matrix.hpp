// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "metro/model.hpp"

namespace metro::ep {

/// Side of the square blocks of fp8 weights that share a scale.
inline constexpr int kScaleBlock = 128;

/// A matrix of weights, row-major; a view.
struct WeightMatrix {
  DataType type = DataType::kFloat32;
  int rows = 0;
  int cols = 0;
  const void* values = nullptr;   ///< [rows][cols] float, bf16 or e4m3
  const float* scales = nullptr;  ///< fp8: [ceil(rows / 128)][ceil(cols / 128)]

  [[nodiscard]] std::size_t size() const noexcept {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
  }
};

/// One expert: y = down * (silu(gate * x) . (up * x)).
struct ExpertWeights {
  WeightMatrix gate_up;  ///< [2 * intermediate][hidden], the gate's rows first
  WeightMatrix down;     ///< [hidden][intermediate]
};

/// Bytes that a pass over the expert reads.
[[nodiscard]] inline double expert_bytes(const ExpertWeights& expert) noexcept {
  return static_cast<double>(expert.gate_up.size() + expert.down.size()) *
         bytes_per_value(expert.gate_up.type);
}

}  // namespace metro::ep
