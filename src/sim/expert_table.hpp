// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "sim/moe_layers.hpp"

namespace metro::sim {

/// Distributions of a step's expert time by batch size: for each size of a grid, a few batches
/// routed through every layer of the pool, when a step first needs them. Sizes between two of the
/// grid are interpolated.
///
/// A block of layers is drawn at a time, so that a model of b blocks has samples^b steps to draw
/// from. Samples depend on the setup and the size alone, not on when they are made, so any number
/// of threads and runs may share a table.
class ExpertTable {
 public:
  explicit ExpertTable(const MoeSetup& setup);

  /// Sums over the model's layers for a step of that size; `key` chooses among the samples.
  LayerSums draw(const StepTokens& tokens, std::uint64_t key);

 private:
  struct Cell {
    std::once_flag made;
    std::vector<MoeLayers::Block> samples;
  };

  /// Sizes along two axes, and their cells.
  struct Grid {
    Grid(std::vector<std::int64_t> decode_sizes, std::vector<std::int64_t> prefill_sizes);
    std::vector<std::int64_t> decode;
    std::vector<std::int64_t> prefill;
    std::unique_ptr<Cell[]> cells;  // [decode][prefill]
  };

  LayerSums draw_at(Grid& grid, std::size_t decode, std::size_t prefill, std::uint64_t key);
  void make(Cell& cell, const StepTokens& tokens);

  std::mutex mutex_;  // guards layers_
  MoeLayers layers_;
  std::uint64_t seed_;
  Grid decode_;  // steps that only decode
  Grid mixed_;   // steps with prompt tokens: coarser, as nearly all experts are active
};

}  // namespace metro::sim
