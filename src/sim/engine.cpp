// SPDX-License-Identifier: Apache-2.0
#include "sim/engine.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/rng.hpp"

namespace metro::sim {

Engine::Engine(const EngineSetup& setup, std::unique_ptr<ExpertTimes> experts,
               std::vector<LiveRequest>& requests, ServingStats& stats, TimelineRecorder* timeline)
    : setup_(setup),
      experts_(std::move(experts)),
      requests_(requests),
      stats_(stats),
      timeline_(timeline),
      outcome_(setup.limits.draft_tokens) {
  ranks_.reserve(static_cast<std::size_t>(setup.num_ranks));
  for (int rank = 0; rank < setup.num_ranks; ++rank) {
    ranks_.emplace_back(setup.limits, requests, stats,
                        mix64(setup.seed) + static_cast<std::uint64_t>(rank));
  }
}

double Engine::next_start() const noexcept {
  for (const Rank& rank : ranks_) {
    if (!rank.idle()) return now_;
  }
  return arrivals_.empty() ? kNever : std::max(now_, arrivals_.top().time_s);
}

void Engine::take_arrivals() {
  while (!arrivals_.empty() && arrivals_.top().time_s <= now_) {
    const auto least = std::ranges::min_element(ranks_, {}, [](const Rank& rank) {
      return std::pair(rank.in_flight(), rank.pending_tokens());
    });
    least->enqueue(arrivals_.top().id);
    arrivals_.pop();
  }
}

StepTokens Engine::plan_ranks() {
  StepTokens tokens;
  for (Rank& rank : ranks_) {
    const StepLoad& load = rank.plan();
    tokens.decode_requests += load.decode_requests;
    tokens.prefill_tokens += load.prefill_tokens;
  }
  return tokens;
}

StepTimes Engine::slowest_rank(const StepTokens& tokens) {
  // The most context to read and the most prompt to compute may be two ranks': the slower counts.
  const auto most = [this](auto&& key) {
    return std::ranges::max_element(ranks_, {}, [&key](const Rank& r) { return key(r.load()); });
  };
  const auto decodes = most(
      [](const StepLoad& load) { return std::pair(load.decode_context_tokens, load.decode_rows); });
  const CostModel& cost = tokens.prefill_tokens > 0 ? *setup_.prefill_cost : *setup_.decode_cost;
  const auto times_of = [&](const Rank& rank) {
    StepLoad load = rank.load();
    load.global_tokens =
        tokens.prefill_tokens + tokens.decode_requests * (1 + setup_.limits.draft_tokens);
    return cost.step(load);
  };
  StepTimes times = times_of(*decodes);
  if (tokens.prefill_tokens > 0) {
    const auto prefills = most([](const StepLoad& load) {
      return std::tuple(load.prefill_tokens, load.prefill_pairs, load.decode_context_tokens);
    });
    if (prefills != decodes) {
      const StepTimes others = times_of(*prefills);
      if (others.total_us() > times.total_us()) times = others;
    }
  }
  return times;
}

double Engine::rearrange() {
  if (setup_.rearrange_every == 0 || steps_ == 0 || steps_ % setup_.rearrange_every != 0) return 0;
  const double bytes = experts_->rearrange() * setup_.slot_bytes;
  stats_.add_rearranged(bytes);
  return setup_.decode_cost->rearrange_us(bytes);
}

double Engine::step() {
  now_ = next_start();
  take_arrivals();
  StepRecord record;
  for (const Rank& rank : ranks_) record.in_flight += rank.in_flight();
  const StepTokens tokens = plan_ranks();
  record.has_prefill = tokens.prefill_tokens > 0;
  record.decode_requests = tokens.decode_requests;
  record.decodes = !setup_.limits.prefill_only;
  record.times = slowest_rank(tokens);
  record.times.us[static_cast<std::size_t>(Stage::kRoute)] += experts_->router_us(tokens);
  record.rearrange_us = rearrange();

  const MoeLayers::Observer* observer = nullptr;
  if (timeline_ != nullptr) observer = timeline_->begin_step(now_ * 1e6, record.times);
  const LayerSums sums = experts_->of_step(tokens, steps_, observer);
  record.experts_us = sums.us;
  record.max_activated = sums.max_activated / setup_.num_moe_layers;
  if (observer != nullptr) timeline_->end_step();

  record.seconds = (record.times.total_us() + record.experts_us + record.rearrange_us) * 1e-6;
  const double end = now_ + record.seconds;
  std::int64_t kv_used = 0;
  for (const Rank& rank : ranks_) kv_used += rank.kv_used();
  record.kv_share = static_cast<double>(kv_used) / (static_cast<double>(setup_.limits.kv_capacity) *
                                                    static_cast<double>(ranks_.size()));
  stats_.add_step(record);

  outcome_.clear();
  for (Rank& rank : ranks_) rank.finish(now_, end, outcome_);
  for (std::size_t n = 1; n < outcome_.emitted.size(); ++n) {
    if (outcome_.emitted[n] == 0) continue;
    stats_.add_tokens(record.seconds, static_cast<std::int64_t>(n), outcome_.emitted[n]);
  }
  for (const std::int32_t id : outcome_.completed) {
    stats_.add_completion(requests_[static_cast<std::size_t>(id)], end);
  }
  now_ = end;
  ++steps_;
  return end;
}

}  // namespace metro::sim
