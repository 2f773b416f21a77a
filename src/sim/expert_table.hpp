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

  /// What the routers of such steps add, where kAutoPolicy chooses them: of the sizes about it, as
  /// `draw` takes them.
  double router_us(const StepTokens& tokens);
  /// Which of MoeLayers' choices such a step is routed by: that of the nearest size.
  std::size_t choice(const StepTokens& tokens);

 private:
  struct Cell {
    std::once_flag made;
    std::size_t choice = 0;
    std::vector<MoeLayers::Block> samples;  // under that choice
  };

  /// Sizes along two axes, and their cells.
  struct Grid {
    Grid(std::vector<std::int64_t> decode_sizes, std::vector<std::int64_t> prefill_sizes);
    std::vector<std::int64_t> decode;
    std::vector<std::int64_t> prefill;
    std::unique_ptr<Cell[]> cells;  // [decode][prefill]
  };

  Grid& grid_for(const StepTokens& tokens) noexcept;
  Cell& cell_at(Grid& grid, std::size_t decode, std::size_t prefill);
  [[nodiscard]] double mean_us(const Cell& cell) const noexcept;
  template <typename Visit>
  void for_each_corner(Grid& grid, const StepTokens& tokens, Visit visit);
  LayerSums draw_at(Grid& grid, std::size_t decode, std::size_t prefill, std::uint64_t key);
  void make(Cell& cell, const StepTokens& tokens);

  std::mutex mutex_;  // guards layers_
  MoeLayers layers_;
  std::uint64_t seed_;
  Grid decode_;  // steps that only decode
  Grid mixed_;   // steps with prompt tokens: coarser, as nearly all experts are active
};

}  // namespace metro::sim
