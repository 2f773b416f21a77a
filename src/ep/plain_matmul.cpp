// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstring>

#include "ep/matmul_kernels.hpp"
#include "ep/weight_panels.hpp"

// A function for each instruction set, chosen when the program starts.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define METRO_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define METRO_CLONES
#endif

namespace metro::ep {
namespace {

using Lanes [[gnu::vector_size(32)]] = float;
constexpr std::size_t kLanes = sizeof(Lanes) / sizeof(float);

/// kRows rows of x times kCount rows of weights. Memory is read once for all of them.
template <std::size_t kRows, std::size_t kCount>
[[gnu::always_inline]] inline void dots(const float* x, const float* weights, std::size_t cols,
                                        float* y, std::size_t y_stride) noexcept {
  Lanes sums[kRows][kCount] = {};
  std::size_t i = 0;
  for (; i + kLanes <= cols; i += kLanes) {
    for (std::size_t n = 0; n < kCount; ++n) {
      Lanes w;
      std::memcpy(&w, weights + n * cols + i, sizeof(w));
      for (std::size_t m = 0; m < kRows; ++m) {
        Lanes in;
        std::memcpy(&in, x + m * cols + i, sizeof(in));
        sums[m][n] += in * w;
      }
    }
  }
  for (std::size_t m = 0; m < kRows; ++m) {
    for (std::size_t n = 0; n < kCount; ++n) {
      float sum = 0;
      for (std::size_t lane = 0; lane < kLanes; ++lane) sum += sums[m][n][lane];
      for (std::size_t j = i; j < cols; ++j) sum += x[m * cols + j] * weights[n * cols + j];
      y[m * y_stride + n] = sum;
    }
  }
}

template <std::size_t kCount>
[[gnu::always_inline]] inline void rows_times(const float* x, std::size_t rows,
                                              const float* weights, std::size_t cols, float* y,
                                              std::size_t y_stride) noexcept {
  std::size_t m = 0;
  for (; m + 4 <= rows; m += 4) {
    dots<4, kCount>(x + m * cols, weights, cols, y + m * y_stride, y_stride);
  }
  for (; m < rows; ++m) {
    dots<1, kCount>(x + m * cols, weights, cols, y + m * y_stride, y_stride);
  }
}

METRO_CLONES void multiply(const float* x, std::size_t rows, const float* weights,
                           std::size_t count, std::size_t cols, float* y, std::size_t y_stride) {
  std::size_t n = 0;
  for (; n + 2 <= count; n += 2) {
    rows_times<2>(x, rows, weights + n * cols, cols, y + n, y_stride);
  }
  for (; n < count; ++n) rows_times<1>(x, rows, weights + n * cols, cols, y + n, y_stride);
}

class PlainMatmul final : public Matmul {
 public:
  void run(const float* x, int rows, const WeightMatrix& w, float* y) override {
    if (rows == 0) return;  // no weights are read, and `x` and `y` may be null
    panels_.for_each(w, [&](const float* panel, int first, int count) {
      multiply(x, static_cast<std::size_t>(rows), panel, static_cast<std::size_t>(count),
               static_cast<std::size_t>(w.cols), y + first, static_cast<std::size_t>(w.rows));
    });
  }

 private:
  WeightPanels panels_;
};

}  // namespace

std::unique_ptr<Matmul> make_plain() { return std::make_unique<PlainMatmul>(); }

}  // namespace metro::ep
