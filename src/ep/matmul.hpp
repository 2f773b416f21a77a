// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "metro/ep/weights.hpp"

namespace metro::ep {

/// A library's way to multiply a few rows by a matrix of weights, on one CPU core.
class Matmul {
 public:
  Matmul() = default;
  virtual ~Matmul() = default;
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  /// y[rows][w.rows] = x[rows][w.cols] * transpose(w), all row-major, sums in fp32. `y` is
  /// overwritten. One thread at a time, any number of kernels; may allocate.
  virtual void run(const float* x, int rows, const WeightMatrix& w, float* y) = 0;
};

/// One row of the table of kernels.
struct MatmulInfo {
  std::string_view name;
  std::string_view summary;         ///< one line, for help texts
  bool (*supports)(DataType type);  ///< on this machine
  std::unique_ptr<Matmul> (*make)();
};

/// The kernels of this build, the best first; `plain` is always there.
std::span<const MatmulInfo> matmul_kernels();

/// The kernel of that name, or nullptr.
const MatmulInfo* find_matmul(std::string_view name);

/// The named kernel, or for "" the best one that supports `type`. Throws Error{kUsage} for an
/// unknown name, Error{kDevice} for one that does not support the type here.
std::unique_ptr<Matmul> make_matmul(std::string_view name, DataType type);

/// The name that make_matmul("", ...) picks.
std::string_view best_matmul(DataType type);

}  // namespace metro::ep
