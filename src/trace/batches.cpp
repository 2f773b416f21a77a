// SPDX-License-Identifier: Apache-2.0
#include "metro/batches.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/rng.hpp"
#include "metro/error.hpp"

namespace metro {

DecodeBatches::DecodeBatches(const RoutingTrace& trace, std::int64_t begin, std::int64_t end) {
  rows_.resize(static_cast<std::size_t>(end - begin));
  std::iota(rows_.begin(), rows_.end(), begin);
  std::int64_t first = 0;
  for (const std::int64_t length : trace.info().sequence_lengths) {
    const std::int64_t from = std::max(first, begin);
    const std::int64_t to = std::min(first + length, end);
    first += length;
    if (from < to) {
      sequences_.push_back(
          {static_cast<std::size_t>(from - begin), static_cast<std::size_t>(to - begin)});
    }
  }
}

std::span<const std::int64_t> DecodeBatches::draw(std::int64_t num_tokens, std::uint64_t seed,
                                                  std::uint64_t batch) {
  if (num_tokens < 0) {
    throw Error(ErrorCode::kUsage,
                fmt::format("a batch of {} tokens, must be at least 0", num_tokens));
  }
  if (num_tokens > capacity()) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("a batch of {} tokens, but this part of the trace has {}", num_tokens,
                            capacity()));
  }
  Rng rng(mix64(mix64(seed) + static_cast<std::uint64_t>(num_tokens)) + batch);
  left_ = sequences_;
  batch_.clear();
  swaps_.clear();
  const auto wanted = static_cast<std::size_t>(num_tokens);
  for (std::size_t round = 0; batch_.size() < wanted; ++round) {
    rng.shuffle(left_);
    for (const Sequence& sequence : left_) {
      if (batch_.size() == wanted) break;
      // A step of Fisher-Yates: a random one of the sequence's unused tokens moves to their front.
      const std::size_t front = sequence.begin + round;
      const auto unused = static_cast<double>(sequence.end - front);
      const std::size_t chosen = front + static_cast<std::size_t>(rng.uniform() * unused);
      std::swap(rows_[front], rows_[chosen]);
      swaps_.emplace_back(front, chosen);
      batch_.push_back(rows_[front]);
    }
    std::erase_if(left_, [round](const Sequence& s) { return s.begin + round + 1 >= s.end; });
  }
  // Undone, so that a batch does not depend on the ones drawn before it.
  while (!swaps_.empty()) {
    std::swap(rows_[swaps_.back().first], rows_[swaps_.back().second]);
    swaps_.pop_back();
  }
  return batch_;
}

}  // namespace metro
