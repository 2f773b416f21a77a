// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "metro/batches.hpp"
#include "metro/topk.hpp"
#include "sim/routing_pool.hpp"

namespace metro::sim {

/// What one step sends through the MoE layers, over all attention ranks.
struct StepTokens {
  std::int64_t decode_requests = 0;
  std::int64_t prefill_tokens = 0;
};

/// Draws the tokens of steps from a pool. One thread at a time.
///
/// A request that decodes brings one random token of its own sequence, and with drafts the ones
/// that follow it; prompts are whole sequences, each from a random token on. What a pool holds too
/// few of is drawn again.
class BatchDrawer {
 public:
  BatchDrawer(std::shared_ptr<const RoutingPool> pool, int draft_tokens);

  /// Draws a batch, which depends on `tokens` and `key` only.
  void draw(const StepTokens& tokens, std::uint64_t key);

  /// The experts of the batch in one layer of the pool; valid until the next call.
  [[nodiscard]] TopkView gather(int layer);

  [[nodiscard]] const RoutingPool& pool() const noexcept { return *pool_; }

 private:
  struct Range {
    std::int64_t begin;
    std::int64_t end;
  };

  void draw_decode(std::int64_t requests, std::uint64_t key);
  void draw_prefill(std::int64_t num_tokens, std::uint64_t key);

  std::shared_ptr<const RoutingPool> pool_;
  int draft_tokens_;
  DecodeBatches batches_;
  std::vector<Range> decode_sequences_;  // of the second half, as for all steps
  std::vector<Range> prefill_sequences_;
  std::vector<std::int64_t> decode_rows_;
  std::vector<std::int64_t> prefill_rows_;
  std::vector<std::int32_t> ids_;
};

}  // namespace metro::sim
