// SPDX-License-Identifier: Apache-2.0
#include "trace/overlap.hpp"

#include <algorithm>

namespace metro {

PairSampler::PairSampler(std::span<const std::int64_t> sequence_lengths, std::uint64_t seed)
    : begin_(1, 0), rng_(seed) {
  for (const std::int64_t length : sequence_lengths) begin_.push_back(begin_.back() + length);
}

/// `partner(row, begin, end)` gives the second token's row or nothing; [begin, end) is the sequence
/// of `row`.
template <typename Draw>
std::vector<TokenPair> PairSampler::draw(std::size_t count, Draw partner) {
  constexpr std::size_t kTriesPerPair = 16;
  std::vector<TokenPair> pairs;
  for (std::size_t tries = 0; pairs.size() < count && tries < count * kTriesPerPair; ++tries) {
    const std::int64_t row = below(begin_.back());
    const auto end = std::ranges::upper_bound(begin_, row);
    const std::optional<std::int64_t> other = partner(row, *(end - 1), *end);
    if (other) pairs.push_back({row, *other});
  }
  return pairs;
}

std::vector<TokenPair> PairSampler::different_sequence(std::size_t count) {
  const std::int64_t tokens = begin_.back();
  return draw(count, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    const std::int64_t others = tokens - (end - begin);
    if (others == 0) return std::optional<std::int64_t>();
    const std::int64_t other = below(others);
    return std::optional(other < begin ? other : other + (end - begin));
  });
}

std::vector<TokenPair> PairSampler::same_sequence(std::size_t count) {
  return draw(count, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
    if (end - begin < 2) return std::optional<std::int64_t>();
    const std::int64_t other = begin + below(end - begin - 1);
    return std::optional(other < row ? other : other + 1);
  });
}

std::vector<TokenPair> PairSampler::at_lag(std::size_t count, std::int64_t lag) {
  return draw(count, [&](std::int64_t row, std::int64_t, std::int64_t end) {
    return row + lag < end ? std::optional(row + lag) : std::optional<std::int64_t>();
  });
}

int OverlapCounter::shared(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  stamp_ += 2;  // even: chosen by a; odd: already counted, so that a repeated id counts once
  for (const std::int32_t id : a) {
    if (id >= 0) last_seen_[static_cast<std::size_t>(id)] = stamp_;
  }
  int count = 0;
  for (const std::int32_t id : b) {
    if (id < 0) continue;
    auto& seen = last_seen_[static_cast<std::size_t>(id)];
    if (seen != stamp_) continue;
    seen = stamp_ + 1;
    ++count;
  }
  return count;
}

}  // namespace metro
