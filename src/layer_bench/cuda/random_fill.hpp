// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "metro/model.hpp"

namespace metro::layer_bench::cuda {

/// A block of a random matrix (random_weights.hpp): rows from `first_row`, columns from
/// `first_col`; zeros past `valid_rows` and `valid_cols`.
struct RandomBlock {
  std::uint64_t key;
  int whole_cols;
  int first_row;
  int first_col;
  int valid_rows;
  int valid_cols;
  int rows;
  int cols;  ///< a multiple of 8
};

/// Writes bf16 or fp8 values; `out` is 16-byte aligned. Throws Error{kDevice}.
void launch_random_fill(const RandomBlock& block, DataType type, void* out, cudaStream_t stream);

/// Sets `count` floats.
void launch_fill(float value, std::size_t count, float* out, cudaStream_t stream);

}  // namespace metro::layer_bench::cuda
