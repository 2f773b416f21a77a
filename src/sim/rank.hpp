// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

#include "core/rng.hpp"
#include "metro/cost.hpp"
#include "sim/serving_stats.hpp"

namespace metro::sim {

/// What an attention rank may take on.
struct RankLimits {
  std::int64_t kv_capacity = 0;     ///< tokens
  std::int64_t kv_per_request = 0;  ///< tokens' worth of state that every request holds besides
  std::int64_t max_running = 0;
  std::int64_t chunk = 0;  ///< tokens of a step
  int draft_tokens = 0;
  double draft_acceptance = 0;
  bool prefill_only = false;  ///< requests leave with their first token
};

/// What a step brought, over all ranks.
struct StepOutcome {
  explicit StepOutcome(int draft_tokens) : emitted(static_cast<std::size_t>(draft_tokens) + 2) {}

  void clear() noexcept {
    completed.clear();
    prefilled.clear();
    std::ranges::fill(emitted, 0);
  }

  std::vector<std::int32_t> completed;  ///< requests
  std::vector<std::int32_t> prefilled;  ///< requests that must go on elsewhere
  std::vector<std::int64_t> emitted;    ///< requests that got n tokens and did not wait, by n
};

/// The scheduler of one attention rank: its queue, the requests that it runs, and their KV cache.
///
/// In each step every running request that has its prompt computed decodes; what is left of the
/// chunk goes to prompts, oldest first; requests are admitted in order while their whole prompt
/// fits. When the cache runs out the youngest request is put back to the front of the queue and
/// loses what was computed (it keeps its tokens).
class Rank {
 public:
  Rank(const RankLimits& limits, std::vector<LiveRequest>& requests, ServingStats& stats,
       std::uint64_t seed);

  /// Whether a request of that size can ever run alone.
  [[nodiscard]] bool can_serve(const LiveRequest& request) const noexcept;

  void enqueue(std::int32_t id);

  /// Chooses the step's work; `global_tokens` is the caller's to fill in.
  const StepLoad& plan();

  /// Ends the planned step, which took from `start` to `end`.
  void finish(double start, double end, StepOutcome& outcome);

  [[nodiscard]] const StepLoad& load() const noexcept { return load_; }
  [[nodiscard]] bool idle() const noexcept { return in_flight() == 0; }
  [[nodiscard]] std::int64_t in_flight() const noexcept {
    return static_cast<std::int64_t>(waiting_.size() + prefilling_.size() + decoding_.size());
  }
  /// Tokens of context that its requests have or wait for.
  [[nodiscard]] std::int64_t pending_tokens() const noexcept { return pending_tokens_; }
  [[nodiscard]] std::int64_t kv_used() const noexcept { return kv_used_; }

 private:
  void preempt_youngest();
  void admit(std::int64_t budget);
  void add_chunk(std::int32_t id, std::int64_t tokens);
  void finish_decodes(double start, double end, StepOutcome& outcome);
  void finish_chunks(double end, StepOutcome& outcome);
  void release(LiveRequest& request);
  std::int32_t accepted_tokens(std::int32_t at_most) noexcept;
  LiveRequest& at(std::int32_t id) noexcept { return requests_[static_cast<std::size_t>(id)]; }

  RankLimits limits_;
  std::vector<LiveRequest>& requests_;
  ServingStats& stats_;
  Rng rng_;
  std::deque<std::int32_t> waiting_;
  std::vector<std::int32_t> prefilling_;  // in order of admission, as decoding_
  std::vector<std::int32_t> decoding_;
  std::vector<std::pair<std::int32_t, std::int64_t>> chunks_;  // of this step: request, tokens
  std::int64_t kv_used_ = 0;
  std::int64_t decoding_context_ = 0;  // tokens of the requests that decode
  std::int64_t pending_tokens_ = 0;
  StepLoad load_;
};

}  // namespace metro::sim
