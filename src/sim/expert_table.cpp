// SPDX-License-Identifier: Apache-2.0
#include "sim/expert_table.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "core/rng.hpp"

namespace metro::sim {
namespace {

/// Largest batch that is routed; beyond, times grow as they do before it: linearly.
constexpr std::int64_t kMaxRows = 4096;
constexpr int kDecodeSamples = 16;
constexpr int kMixedSamples = 3;

/// Sizes from `first` on, `per_octave` to a doubling, up to `last`; never two alike.
std::vector<std::int64_t> sizes(double first, double per_octave, std::int64_t last) {
  std::vector<std::int64_t> grid;
  for (int i = 0;; ++i) {
    const auto size = static_cast<std::int64_t>(std::lround(first * std::exp2(i / per_octave)));
    if (size > last) break;
    if (grid.empty() || size > grid.back()) grid.push_back(size);
  }
  return grid;
}

std::vector<std::int64_t> decode_sizes(std::int64_t last) {
  // The last two an octave apart: the slope beyond must not hang on noise.
  std::vector<std::int64_t> grid = sizes(1, 4, last / 2);
  grid.push_back(std::max(last, grid.empty() ? 1 : grid.back() + 1));
  return grid;
}

std::vector<std::int64_t> mixed_decode_sizes(std::int64_t last) {
  std::vector<std::int64_t> grid = {0};
  for (const std::int64_t size : sizes(4, 0.5, last)) grid.push_back(size);
  if (grid.size() == 1) grid.push_back(last);
  return grid;
}

std::vector<std::int64_t> prefill_sizes() { return sizes(1, 1, kMaxRows); }

/// Where a size lies: between grid[index] and grid[index + 1], `share` of the way; beyond the last
/// above 1.
struct Place {
  std::size_t index;
  double share;
};

Place locate(std::span<const std::int64_t> grid, std::int64_t size) {
  if (grid.size() == 1) return {0, 0.0};
  const auto above = std::ranges::upper_bound(grid, size) - grid.begin();
  const auto index = static_cast<std::size_t>(
      std::clamp<std::ptrdiff_t>(above - 1, 0, static_cast<std::ptrdiff_t>(grid.size()) - 2));
  return {index, static_cast<double>(size - grid[index]) /
                     static_cast<double>(grid[index + 1] - grid[index])};
}

}  // namespace

ExpertTable::Grid::Grid(std::vector<std::int64_t> decode_sizes,
                        std::vector<std::int64_t> prefill_sizes)
    : decode(std::move(decode_sizes)),
      prefill(std::move(prefill_sizes)),
      cells(std::make_unique<Cell[]>(decode.size() * prefill.size())) {}

ExpertTable::ExpertTable(const MoeSetup& setup)
    : layers_(setup),
      seed_(mix64(setup.seed)),
      decode_(decode_sizes(std::max<std::int64_t>(2, kMaxRows / (1 + setup.draft_tokens))), {0}),
      mixed_(mixed_decode_sizes(std::max<std::int64_t>(2, kMaxRows / (1 + setup.draft_tokens))),
             prefill_sizes()) {}

ExpertTable::Grid& ExpertTable::grid_for(const StepTokens& tokens) noexcept {
  return tokens.prefill_tokens > 0 ? mixed_ : decode_;
}

double ExpertTable::mean_us(const Cell& cell) const noexcept {
  double sum = 0;
  for (const MoeLayers::Block& sample : cell.samples) {
    sum += sample.whole.us * (layers_.num_blocks() - 1) + sample.last.us;
  }
  return sum / static_cast<double>(cell.samples.size());
}

/// Under every choice the same batches; the first that is as fast as any is taken.
void ExpertTable::make(Cell& cell, const StepTokens& tokens) {
  const int count = tokens.prefill_tokens > 0 ? kMixedSamples : kDecodeSamples;
  const std::scoped_lock lock(mutex_);
  double least_us = std::numeric_limits<double>::max();
  for (std::size_t choice = 0; choice < layers_.num_choices(tokens); ++choice) {
    Cell tried;
    tried.choice = choice;
    // The same keys for all sizes: what neighbours have in common keeps noise out of their slope.
    for (int i = 0; i < count; ++i) {
      tried.samples.push_back(
          layers_.route_block(tokens, seed_ + static_cast<std::uint64_t>(i), choice));
    }
    const double us = mean_us(tried) + layers_.router_us(tokens, choice);
    if (us >= least_us) continue;
    least_us = us;
    cell.choice = tried.choice;
    cell.samples = std::move(tried.samples);
  }
}

ExpertTable::Cell& ExpertTable::cell_at(Grid& grid, std::size_t decode, std::size_t prefill) {
  Cell& cell = grid.cells[decode * grid.prefill.size() + prefill];
  std::call_once(cell.made, [&] { make(cell, {grid.decode[decode], grid.prefill[prefill]}); });
  return cell;
}

LayerSums ExpertTable::draw_at(Grid& grid, std::size_t decode, std::size_t prefill,
                               std::uint64_t key) {
  const Cell& cell = cell_at(grid, decode, prefill);
  const auto count = static_cast<std::uint32_t>(cell.samples.size());
  LayerSums sums;
  const int blocks = layers_.num_blocks();
  for (int block = 0; block < blocks; ++block) {
    const auto chosen = scale_to(mix64(key + static_cast<std::uint64_t>(block)), count);
    const MoeLayers::Block& sample = cell.samples[chosen];
    sums += block + 1 < blocks ? sample.whole : sample.last;
  }
  return sums;
}

/// The sizes of the grid about that of the step, each with its weight.
template <typename Visit>
void ExpertTable::for_each_corner(Grid& grid, const StepTokens& tokens, Visit visit) {
  const Place decode = locate(grid.decode, tokens.decode_requests);
  const Place prefill = locate(grid.prefill, tokens.prefill_tokens);
  for (std::size_t d = 0; d < 2; ++d) {
    const double decode_weight = d == 0 ? 1 - decode.share : decode.share;
    if (decode_weight == 0) continue;  // a size of the grid: do not route its neighbour
    for (std::size_t p = 0; p < 2; ++p) {
      const double weight = decode_weight * (p == 0 ? 1 - prefill.share : prefill.share);
      if (weight != 0) visit(decode.index + d, prefill.index + p, weight);
    }
  }
}

LayerSums ExpertTable::draw(const StepTokens& tokens, std::uint64_t key) {
  Grid& grid = grid_for(tokens);
  LayerSums sums;
  for_each_corner(grid, tokens, [&](std::size_t decode, std::size_t prefill, double weight) {
    const LayerSums corner = draw_at(grid, decode, prefill, key);
    sums += {weight * corner.us, weight * corner.max_activated};
  });
  return sums;
}

double ExpertTable::router_us(const StepTokens& tokens) {
  if (layers_.num_choices(tokens) == 1) return 0;
  Grid& grid = grid_for(tokens);
  double us = 0;
  for_each_corner(grid, tokens, [&](std::size_t decode, std::size_t prefill, double weight) {
    const std::size_t choice = cell_at(grid, decode, prefill).choice;
    us += weight * layers_.router_us({grid.decode[decode], grid.prefill[prefill]}, choice);
  });
  return std::max(0.0, us);  // beyond the last sizes weights may be negative
}

std::size_t ExpertTable::choice(const StepTokens& tokens) {
  if (layers_.num_choices(tokens) == 1) return 0;
  Grid& grid = grid_for(tokens);
  const auto nearest = [](std::span<const std::int64_t> sizes, std::int64_t size) {
    const Place place = locate(sizes, size);
    return place.index + (place.share < 0.5 ? 0 : 1);
  };
  return cell_at(grid, nearest(grid.decode, tokens.decode_requests),
                 nearest(grid.prefill, tokens.prefill_tokens))
      .choice;
}

}  // namespace metro::sim
