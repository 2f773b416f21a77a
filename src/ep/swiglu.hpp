// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "ep/matmul.hpp"

namespace metro::ep {

/// out[m][i] = silu(gate) * up, where a row of `gate_up` is `width` gates, then `width` ups.
inline void swiglu(const float* gate_up, std::size_t rows, std::size_t width, float* out) noexcept {
  for (std::size_t m = 0; m < rows; ++m, gate_up += 2 * width, out += width) {
    for (std::size_t i = 0; i < width; ++i) {
      const float gate = gate_up[i];
      out[i] = gate / (1.0F + std::exp(-gate)) * gate_up[width + i];
    }
  }
}

/// Room for one expert's inner values; grows, and is kept between calls.
struct MlpWorkspace {
  std::vector<float> gate_up;
  std::vector<float> inner;
};

/// y[rows][hidden] = down * swiglu(gate_up * x).
inline void run_mlp(Matmul& matmul, const ExpertWeights& expert, const float* x, std::size_t rows,
                    MlpWorkspace& workspace, float* y) {
  const auto width = static_cast<std::size_t>(expert.down.cols);
  if (width == 0) {  // a shard of an expert that is narrower than there are ranks
    std::fill_n(y, rows * static_cast<std::size_t>(expert.down.rows), 0.0F);
    return;
  }
  workspace.gate_up.resize(rows * 2 * width);
  workspace.inner.resize(rows * width);
  matmul.run(x, static_cast<int>(rows), expert.gate_up, workspace.gate_up.data());
  swiglu(workspace.gate_up.data(), rows, width, workspace.inner.data());
  matmul.run(workspace.inner.data(), static_cast<int>(rows), expert.down, y);
}

}  // namespace metro::ep
