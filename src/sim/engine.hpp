// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <queue>
#include <span>
#include <vector>

#include "metro/cost.hpp"
#include "sim/expert_times.hpp"
#include "sim/rank.hpp"
#include "sim/serving_stats.hpp"
#include "sim/timeline.hpp"

namespace metro::sim {

/// GPUs that serve together.
struct EngineSetup {
  std::shared_ptr<const CostModel> decode_cost;   ///< of steps that only decode
  std::shared_ptr<const CostModel> prefill_cost;  ///< of steps with prompt tokens
  int num_ranks = 1;                              ///< attention ranks
  int num_moe_layers = 1;
  RankLimits limits;
  std::int64_t rearrange_every = 0;
  double slot_bytes = 0;  ///< of one expert slot in one layer
  std::uint64_t seed = 0;
};

/// Attention ranks in lockstep, as the exchange of tokens between experts forces them to be: a step
/// takes the slowest rank's time and the slowest GPU's experts, layer by layer.
class Engine {
 public:
  static constexpr double kNever = 1e300;

  Engine(const EngineSetup& setup, std::unique_ptr<ExpertTimes> experts,
         std::vector<LiveRequest>& requests, ServingStats& stats, TimelineRecorder* timeline);

  [[nodiscard]] bool can_serve(const LiveRequest& request) const noexcept {
    return ranks_.front().can_serve(request);
  }

  /// The request joins the first step that starts at `time_s` or later.
  void submit(std::int32_t id, double time_s) { arrivals_.push({time_s, id}); }

  /// When the next step would start; kNever without requests.
  [[nodiscard]] double next_start() const noexcept;

  /// One step. Returns when it ended.
  double step();

  /// Requests that the last step completed, and those that it prefilled for another engine.
  [[nodiscard]] std::span<const std::int32_t> completed() const noexcept {
    return outcome_.completed;
  }
  [[nodiscard]] std::span<const std::int32_t> prefilled() const noexcept {
    return outcome_.prefilled;
  }

 private:
  struct Arrival {
    double time_s;
    std::int32_t id;
    friend bool operator>(const Arrival& a, const Arrival& b) noexcept {
      return a.time_s != b.time_s ? a.time_s > b.time_s : a.id > b.id;
    }
  };

  void take_arrivals();
  StepTokens plan_ranks();
  StepTimes slowest_rank(const StepTokens& tokens);
  double rearrange();

  EngineSetup setup_;
  std::unique_ptr<ExpertTimes> experts_;
  std::vector<LiveRequest>& requests_;
  ServingStats& stats_;
  TimelineRecorder* timeline_;
  std::vector<Rank> ranks_;
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> arrivals_;
  StepOutcome outcome_;
  double now_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace metro::sim
