// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/layer_table.hpp"

namespace metro::cuda {

/// Shared memory that a solver works in.
struct SolverMemory {
  const TableLayout& layout;
  const std::uint32_t* table;  ///< the staged part of a layer's table
  std::uint32_t* scratch;      ///< [gpus][mask_words]
  std::uint8_t* gpu_of;        ///< [experts] filled with kUnmoved; experts that move get their GPU
};

inline constexpr std::uint8_t kUnmoved = 0xFF;

}  // namespace metro::cuda
