// SPDX-License-Identifier: Apache-2.0
#include "sim/rank.hpp"

#include <algorithm>

namespace metro::sim {

Rank::Rank(const RankLimits& limits, std::vector<LiveRequest>& requests, ServingStats& stats,
           std::uint64_t seed)
    : limits_(limits), requests_(requests), stats_(stats), rng_(seed) {}

bool Rank::can_serve(const LiveRequest& request) const noexcept {
  // At its end all but the last token are cached, and drafts beyond it.
  return std::int64_t{request.prompt} + std::max(request.output, 1) + limits_.draft_tokens +
             limits_.kv_per_request <=
         limits_.kv_capacity;
}

void Rank::enqueue(std::int32_t id) {
  waiting_.push_back(id);
  pending_tokens_ += at(id).prompt + at(id).generated;
}

const StepLoad& Rank::plan() {
  load_ = {};
  chunks_.clear();
  const std::int64_t rows_each = 1 + limits_.draft_tokens;
  const auto rows = [&] { return static_cast<std::int64_t>(decoding_.size()) * rows_each; };
  bool preempted = false;
  while (kv_used_ + rows() > limits_.kv_capacity) {
    preempt_youngest();
    preempted = true;
  }
  std::int64_t budget = limits_.chunk - rows();
  for (const std::int32_t id : prefilling_) {
    if (budget <= 0) break;
    const std::int64_t tokens =
        std::min<std::int64_t>(budget, at(id).prefill_goal - at(id).prefilled);
    add_chunk(id, tokens);
    budget -= tokens;
  }
  // Not while others had to go: who was put back would come in again at once.
  if (!preempted) admit(budget);

  const auto requests = static_cast<std::int64_t>(decoding_.size());
  load_.decode_requests = static_cast<int>(requests);
  load_.decode_rows = rows();
  load_.decode_context_tokens =
      decoding_context_ * rows_each + requests * (rows_each * (rows_each - 1) / 2);
  load_.logits_rows += rows();
  return load_;
}

void Rank::admit(std::int64_t budget) {
  const std::int64_t rows_each = 1 + limits_.draft_tokens;
  while (!waiting_.empty()) {
    const std::int32_t id = waiting_.front();
    LiveRequest& request = at(id);
    const auto running = static_cast<std::int64_t>(prefilling_.size() + decoding_.size());
    const bool is_prefilled = request.prefilled > 0;  // by another engine
    if (running >= limits_.max_running || (budget <= 0 && !is_prefilled)) return;
    const std::int64_t needed = request.prefill_goal + limits_.kv_per_request;
    // Room for the next step of all, so that who comes in does not drive others out at once.
    if (kv_used_ + needed + (running + 1) * rows_each > limits_.kv_capacity) return;
    waiting_.pop_front();
    request.held = needed;
    kv_used_ += needed;
    if (is_prefilled) {
      decoding_.push_back(id);
      decoding_context_ += request.prompt + request.generated;
      continue;
    }
    prefilling_.push_back(id);
    const std::int64_t tokens = std::min<std::int64_t>(budget, request.prefill_goal);
    add_chunk(id, tokens);
    budget -= tokens;
  }
}

void Rank::add_chunk(std::int32_t id, std::int64_t tokens) {
  const LiveRequest& request = at(id);
  chunks_.emplace_back(id, tokens);
  load_.prefill_tokens += tokens;
  load_.prefill_pairs += tokens * request.prefilled + tokens * (tokens + 1) / 2;
  load_.logits_rows += request.prefilled + tokens == request.prefill_goal ? 1 : 0;
}

void Rank::preempt_youngest() {
  std::vector<std::int32_t>& list = prefilling_.empty() ? decoding_ : prefilling_;
  const std::int32_t id = list.back();
  list.pop_back();
  LiveRequest& request = at(id);
  if (&list == &decoding_) decoding_context_ -= request.prompt + request.generated;
  stats_.add_preemption(request.prefilled);
  kv_used_ -= request.held;
  request.held = 0;
  request.prefilled = 0;
  request.prefill_goal = request.prompt + request.generated;
  waiting_.push_front(id);
}

void Rank::finish(double start, double end, StepOutcome& outcome) {
  finish_decodes(start, end, outcome);
  finish_chunks(end, outcome);
}

std::int32_t Rank::accepted_tokens(std::int32_t at_most) noexcept {
  std::int32_t tokens = 1;
  while (tokens <= limits_.draft_tokens && rng_.uniform() < limits_.draft_acceptance) ++tokens;
  return std::min(tokens, at_most);
}

void Rank::finish_decodes(double start, double end, StepOutcome& outcome) {
  std::size_t kept = 0;
  for (const std::int32_t id : decoding_) {
    LiveRequest& request = at(id);
    const std::int32_t tokens = accepted_tokens(request.output - request.generated);
    if (request.last_token_s == start) {
      ++outcome.emitted[static_cast<std::size_t>(tokens)];
    } else {  // it waited meanwhile
      stats_.add_tokens(end - request.last_token_s, tokens, 1);
    }
    request.generated += tokens;
    request.held += tokens;
    request.last_token_s = end;
    kv_used_ += tokens;
    decoding_context_ += tokens;
    pending_tokens_ += tokens;
    if (request.generated < request.output) {
      decoding_[kept++] = id;
      continue;
    }
    decoding_context_ -= request.prompt + request.generated;
    release(request);
    outcome.completed.push_back(id);
  }
  decoding_.resize(kept);
}

void Rank::finish_chunks(double end, StepOutcome& outcome) {
  // Prompts are computed oldest first, so that those done are the first of the list.
  std::size_t done = 0;
  for (const auto& [id, tokens] : chunks_) {
    LiveRequest& request = at(id);
    request.prefilled += static_cast<std::int32_t>(tokens);
    if (request.prefilled < request.prefill_goal) continue;
    ++done;
    if (request.generated == 0) {
      request.first_token_s = end;
    } else {
      stats_.add_tokens(end - request.last_token_s, 1, 1);
    }
    request.last_token_s = end;
    if (request.output > 0) {
      ++request.generated;
      ++pending_tokens_;
    }
    if (request.generated >= request.output) {
      release(request);
      outcome.completed.push_back(id);
    } else if (limits_.prefill_only) {
      release(request);
      outcome.prefilled.push_back(id);
    } else {
      decoding_.push_back(id);
      decoding_context_ += request.prompt + request.generated;
    }
  }
  prefilling_.erase(prefilling_.begin(), prefilling_.begin() + static_cast<std::ptrdiff_t>(done));
}

void Rank::release(LiveRequest& request) {
  kv_used_ -= request.held;
  pending_tokens_ -= request.prompt + request.generated;
  request.held = 0;
}

}  // namespace metro::sim
