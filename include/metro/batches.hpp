// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "metro/trace.hpp"

namespace metro {

/// Draws decode batches from part of a trace, as continuous batching would mix its sequences: the
/// sequences in random order, one random token each, round after round until the batch is full.
///
///     metro::DecodeBatches batches(trace, trace.num_tokens() / 2, trace.num_tokens());
///     std::span<const std::int64_t> rows = batches.draw(256, seed, batch_index);
///
/// No token comes twice in a batch. A sequence cut by the bounds takes part with what is inside.
/// A batch depends on the seed, its size and its index only. One thread at a time.
class DecodeBatches {
 public:
  /// Tokens [begin, end) of the trace.
  DecodeBatches(const RoutingTrace& trace, std::int64_t begin, std::int64_t end);

  /// Largest batch that can be drawn.
  [[nodiscard]] std::int64_t capacity() const noexcept {
    return static_cast<std::int64_t>(rows_.size());
  }

  /// Rows of the trace; valid until the next call. Throws Error{kUsage} below 0 tokens,
  /// Error{kInfeasible} above `capacity`. Costs O(sequences + tokens).
  std::span<const std::int64_t> draw(std::int64_t num_tokens, std::uint64_t seed,
                                     std::uint64_t batch);

 private:
  struct Sequence {
    std::size_t begin;  // in rows_
    std::size_t end;
  };

  std::vector<Sequence> sequences_;
  std::vector<Sequence> left_;      // those that still have tokens, while a batch is drawn
  std::vector<std::int64_t> rows_;  // [begin, end), reordered while a batch is drawn
  std::vector<std::int64_t> batch_;
  std::vector<std::pair<std::size_t, std::size_t>> swaps_;
};

}  // namespace metro
