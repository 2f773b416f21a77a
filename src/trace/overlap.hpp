// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/rng.hpp"

namespace metro {

/// Two tokens of a trace, by row.
struct TokenPair {
  std::int64_t a;
  std::int64_t b;
};

/// Draws pairs of tokens by how they are related; each draw is uniform over the first token.
class PairSampler {
 public:
  PairSampler(std::span<const std::int64_t> sequence_lengths, std::uint64_t seed);

  /// At most `count` pairs; fewer or none when the trace has few such pairs.
  std::vector<TokenPair> different_sequence(std::size_t count);
  std::vector<TokenPair> same_sequence(std::size_t count);
  std::vector<TokenPair> at_lag(std::size_t count, std::int64_t lag);

 private:
  std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(rng_.uniform() * static_cast<double>(bound));
  }

  template <typename Draw>
  std::vector<TokenPair> draw(std::size_t count, Draw partner);

  std::vector<std::int64_t> begin_;  // [sequences + 1]
  Rng rng_;
};

/// Counts the distinct experts that two tokens of one layer share.
class OverlapCounter {
 public:
  explicit OverlapCounter(int num_experts) : last_seen_(static_cast<std::size_t>(num_experts), 0) {}

  int shared(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

 private:
  std::vector<std::uint64_t> last_seen_;
  std::uint64_t stamp_ = 0;
};

}  // namespace metro
