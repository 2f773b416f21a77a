// SPDX-License-Identifier: Apache-2.0
#include "sim/batch_drawer.hpp"

#include <algorithm>
#include <utility>

#include "core/rng.hpp"

namespace metro::sim {
namespace {

/// The sequences that rows come from, as far as they lie among them.
template <typename Range>
std::vector<Range> second_half(const StepRows& rows) {
  std::vector<Range> sequences;
  std::int64_t begin = 0;
  for (const std::int64_t length : rows.trace().info().sequence_lengths) {
    const std::int64_t end = begin + length;
    if (end > rows.begin() && length > 0) sequences.push_back({std::max(begin, rows.begin()), end});
    begin = end;
  }
  return sequences;
}

}  // namespace

BatchDrawer::BatchDrawer(std::shared_ptr<const RoutingPool> pool, int draft_tokens)
    : pool_(std::move(pool)),
      draft_tokens_(draft_tokens),
      batches_(pool_->decode->trace(), pool_->decode->begin(), pool_->decode->trace().num_tokens()),
      decode_sequences_(second_half<Range>(*pool_->decode)),
      prefill_sequences_(second_half<Range>(*pool_->prefill)) {}

void BatchDrawer::draw(const StepTokens& tokens, std::uint64_t key) {
  decode_rows_.clear();
  prefill_rows_.clear();
  draw_decode(tokens.decode_requests, mix64(key));
  draw_prefill(tokens.prefill_tokens, mix64(key + 1));
}

void BatchDrawer::draw_decode(std::int64_t requests, std::uint64_t key) {
  for (std::uint64_t round = 0; requests > 0; ++round) {
    const std::int64_t now = std::min(requests, batches_.capacity());
    const std::span<const std::int64_t> rows = batches_.draw(now, key, round);
    requests -= now;
    if (draft_tokens_ == 0) {
      decode_rows_.insert(decode_rows_.end(), rows.begin(), rows.end());
      continue;
    }
    for (const std::int64_t row : rows) {
      const Range sequence = *std::ranges::upper_bound(decode_sequences_, row, {}, &Range::end);
      const std::int64_t first =
          std::max(sequence.begin, std::min(row, sequence.end - 1 - draft_tokens_));
      for (int draft = 0; draft <= draft_tokens_; ++draft) {
        decode_rows_.push_back(std::min(first + draft, sequence.end - 1));
      }
    }
  }
}

void BatchDrawer::draw_prefill(std::int64_t num_tokens, std::uint64_t key) {
  Rng rng(key);
  while (num_tokens > 0) {
    const auto chosen = rng.below(static_cast<std::uint32_t>(prefill_sequences_.size()));
    const Range sequence = prefill_sequences_[chosen];
    const std::int64_t length = sequence.end - sequence.begin;
    std::int64_t at = rng.below(static_cast<std::uint32_t>(length));
    for (std::int64_t left = std::min(length, num_tokens); left > 0; --left, --num_tokens) {
      prefill_rows_.push_back(sequence.begin + at);
      if (++at == length) at = 0;
    }
  }
}

TopkView BatchDrawer::gather(int layer) {
  const auto topk = static_cast<std::size_t>(pool_->topk());
  const std::size_t split = decode_rows_.size() * topk;
  ids_.resize(split + prefill_rows_.size() * topk);
  pool_->decode->gather(decode_rows_, layer, std::span(ids_).first(split));
  pool_->prefill->gather(prefill_rows_, layer, std::span(ids_).subspan(split));
  return {ids_, static_cast<int>(decode_rows_.size() + prefill_rows_.size()), pool_->topk()};
}

}  // namespace metro::sim
