// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "metro/cost.hpp"
#include "metro/simulate.hpp"

namespace metro::sim {

/// A request while it is served.
struct LiveRequest {
  double arrival_s = 0;
  double first_token_s = 0;
  double last_token_s = 0;
  std::int32_t prompt = 0;
  std::int32_t output = 0;
  std::int32_t generated = 0;
  std::int32_t prefill_goal = 0;  ///< tokens to compute before it decodes (again)
  std::int32_t prefilled = 0;     ///< of these
  std::int64_t held = 0;          ///< KV tokens that are its own
};

/// One step of an engine.
struct StepRecord {
  double seconds = 0;
  StepTimes times;  ///< all but experts
  double experts_us = 0;
  double rearrange_us = 0;
  double max_activated = 0;  ///< mean over layers
  bool has_prefill = false;
  std::int64_t decode_requests = 0;
  std::int64_t in_flight = 0;
  double kv_share = 0;   ///< of the capacity in use
  bool decodes = false;  ///< an engine whose KV use counts
};

/// Adds up what a simulation saw, and turns it into the result.
class ServingStats {
 public:
  explicit ServingStats(const SimulationConfig& config);

  /// `tokens` tokens came `seconds` after the one before them, in each of `requests` requests.
  void add_tokens(double seconds, std::int64_t tokens, std::int64_t requests) {
    gaps_.push_back({seconds / static_cast<double>(tokens), tokens * requests});
  }
  void add_step(const StepRecord& step);
  void add_preemption(std::int64_t tokens) {
    ++result_.preemptions;
    result_.recomputed_tokens += tokens;
  }
  void add_rejection() { ++result_.rejected; }
  void add_completion(const LiveRequest& request, double now);
  void add_rearranged(double bytes) { result_.rearranged_bytes += bytes; }
  [[nodiscard]] std::int64_t completed() const noexcept { return result_.completed; }
  [[nodiscard]] std::int64_t rejected() const noexcept { return result_.rejected; }

  /// Everything but what the configuration alone says.
  SimulationResult finish();

 private:
  struct Gap {
    double seconds;
    std::int64_t tokens;
  };

  double slo_tpot_s_;
  double slo_ttft_s_;
  SimulationResult result_;
  std::vector<Gap> gaps_;
  std::vector<double> ttft_s_;
  std::vector<double> tpot_s_;
  std::vector<double> latency_s_;
  std::int64_t good_ = 0;
  double in_flight_s_ = 0;
  double kv_share_s_ = 0;
  double decode_s_ = 0;
  std::int64_t decode_steps_ = 0;
  std::int64_t prefill_steps_ = 0;
  double batch_sum_ = 0;
  double activated_sum_ = 0;
  double activated_prefill_sum_ = 0;
  StepTimes stages_;
  double experts_us_ = 0;
  double rearrange_us_ = 0;
};

}  // namespace metro::sim
