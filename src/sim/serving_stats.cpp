// SPDX-License-Identifier: Apache-2.0
#include "sim/serving_stats.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

namespace metro::sim {
namespace {

/// Of ascending values; between two of them linearly, as NumPy does.
double percentile(std::span<const double> sorted, double share) {
  if (sorted.empty()) return 0;
  const double at = share * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], at - static_cast<double>(below));
}

Percentiles summarise_ms(std::vector<double>& seconds) {
  if (seconds.empty()) return {};
  std::ranges::sort(seconds);
  const double sum = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  return {1e3 * sum / static_cast<double>(seconds.size()), 1e3 * percentile(seconds, 0.5),
          1e3 * percentile(seconds, 0.9), 1e3 * percentile(seconds, 0.99)};
}

double ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

ServingStats::ServingStats(const SimulationConfig& config)
    : slo_tpot_s_(config.slo_tpot_ms * 1e-3), slo_ttft_s_(config.slo_ttft_ms * 1e-3) {}

void ServingStats::add_step(const StepRecord& step) {
  ++result_.steps;
  in_flight_s_ += step.seconds * static_cast<double>(step.in_flight);
  if (step.decodes) {
    decode_s_ += step.seconds;
    kv_share_s_ += step.seconds * step.kv_share;
    result_.kv_use_peak = std::max(result_.kv_use_peak, step.kv_share);
  }
  if (step.has_prefill) {
    ++prefill_steps_;
    activated_prefill_sum_ += step.max_activated;
  } else {
    ++decode_steps_;
    batch_sum_ += static_cast<double>(step.decode_requests);
    activated_sum_ += step.max_activated;
  }
  for (std::size_t i = 0; i < kNumStages; ++i) stages_.us[i] += step.times.us[i];
  experts_us_ += step.experts_us;
  rearrange_us_ += step.rearrange_us;
}

void ServingStats::add_completion(const LiveRequest& request, double now) {
  ++result_.completed;
  result_.prompt_tokens += request.prompt;
  result_.output_tokens += request.generated;
  result_.simulated_s = std::max(result_.simulated_s, now);
  const double ttft = request.first_token_s - request.arrival_s;
  ttft_s_.push_back(ttft);
  latency_s_.push_back(now - request.arrival_s);
  double tpot = 0;
  if (request.generated > 1) {
    tpot = (request.last_token_s - request.first_token_s) / (request.generated - 1);
    tpot_s_.push_back(tpot);
  }
  const bool good =
      (slo_tpot_s_ == 0 || tpot <= slo_tpot_s_) && (slo_ttft_s_ == 0 || ttft <= slo_ttft_s_);
  good_ += good ? 1 : 0;
}

SimulationResult ServingStats::finish() {
  result_.ttft_ms = summarise_ms(ttft_s_);
  result_.tpot_ms = summarise_ms(tpot_s_);
  result_.latency_ms = summarise_ms(latency_s_);

  std::ranges::sort(gaps_, {}, &Gap::seconds);
  double sum = 0;
  std::int64_t count = 0;
  for (const Gap& gap : gaps_) {
    sum += gap.seconds * static_cast<double>(gap.tokens);
    count += gap.tokens;
  }
  if (count > 0) {
    result_.itl_ms.mean = 1e3 * sum / static_cast<double>(count);
    const std::array<std::pair<double, double*>, 3> wanted = {
        {{0.5, &result_.itl_ms.p50}, {0.9, &result_.itl_ms.p90}, {0.99, &result_.itl_ms.p99}}};
    std::int64_t seen = 0;
    std::size_t next = 0;
    for (const Gap& gap : gaps_) {
      seen += gap.tokens;
      for (; next < wanted.size() &&
             static_cast<double>(seen) >= wanted[next].first * static_cast<double>(count);
           ++next) {
        *wanted[next].second = 1e3 * gap.seconds;
      }
    }
  }

  const double seconds = result_.simulated_s;
  result_.output_tokens_per_s = ratio(static_cast<double>(result_.output_tokens), seconds);
  result_.total_tokens_per_s =
      ratio(static_cast<double>(result_.output_tokens + result_.prompt_tokens), seconds);
  result_.goodput_requests_per_s = ratio(static_cast<double>(good_), seconds);
  result_.mean_in_flight = ratio(in_flight_s_, seconds);
  result_.mean_batch = ratio(batch_sum_, static_cast<double>(decode_steps_));
  result_.kv_use = ratio(kv_share_s_, decode_s_);
  result_.max_activated = ratio(activated_sum_, static_cast<double>(decode_steps_));
  result_.max_activated_prefill =
      ratio(activated_prefill_sum_, static_cast<double>(prefill_steps_));

  const double total = stages_.total_us() + experts_us_ + rearrange_us_;
  for (std::size_t i = 0; i < kNumStages; ++i) {
    const auto stage = static_cast<Stage>(i);
    const double us = stage == Stage::kExperts ? experts_us_ : stages_[stage];
    result_.stage_share.emplace_back(stage_name(stage), ratio(us, total));
  }
  result_.stage_share.emplace_back("rearrange", ratio(rearrange_us_, total));
  return std::move(result_);
}

}  // namespace metro::sim
