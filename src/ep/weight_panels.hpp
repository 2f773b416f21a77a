// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ep/low_precision.hpp"
#include "metro/ep/weights.hpp"

namespace metro::ep {

/// Hands out a matrix of weights in fp32, some rows at a time: fp32 whole and in place, narrower
/// types through a buffer that stays in the L2 cache, so that memory is read at their own width.
class WeightPanels {
 public:
  /// Calls use(values, first_row, num_rows) for each panel; values are [num_rows][w.cols].
  template <typename Use>
  void for_each(const WeightMatrix& w, Use&& use) {
    if (w.type == DataType::kFloat32) {
      use(static_cast<const float*>(w.values), 0, w.rows);
      return;
    }
    const auto cols = static_cast<std::size_t>(w.cols);
    const int step = std::max(8, static_cast<int>(kPanelFloats / std::max<std::size_t>(cols, 1)));
    buffer_.resize(static_cast<std::size_t>(step) * cols);
    for (int first = 0; first < w.rows; first += step) {
      const int count = std::min(step, w.rows - first);
      for (int row = 0; row < count; ++row) {
        widen(w, first + row, buffer_.data() + static_cast<std::size_t>(row) * cols);
      }
      use(static_cast<const float*>(buffer_.data()), first, count);
    }
  }

 private:
  static constexpr std::size_t kPanelFloats = 65536;

  static void widen(const WeightMatrix& w, int row, float* out) noexcept {
    const auto cols = static_cast<std::size_t>(w.cols);
    const std::size_t at = static_cast<std::size_t>(row) * cols;
    if (w.type == DataType::kBf16) {
      const auto* values = static_cast<const std::uint16_t*>(w.values) + at;
      for (std::size_t col = 0; col < cols; ++col) out[col] = from_bf16(values[col]);
      return;
    }
    const auto* values = static_cast<const std::uint8_t*>(w.values) + at;
    const std::size_t scales_a_row = (cols + kScaleBlock - 1) / kScaleBlock;
    const float* scales = w.scales + static_cast<std::size_t>(row / kScaleBlock) * scales_a_row;
    for (std::size_t col = 0; col < cols; col += kScaleBlock) {
      const float scale = scales[col / kScaleBlock];
      const std::size_t end = std::min(cols, col + kScaleBlock);
      for (std::size_t i = col; i < end; ++i) out[i] = from_e4m3(values[i]) * scale;
    }
  }

  std::vector<float> buffer_;
};

}  // namespace metro::ep
