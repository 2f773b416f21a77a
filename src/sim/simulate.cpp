// SPDX-License-Identifier: Apache-2.0
#include "metro/simulate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "metro/error.hpp"
#include "sim/engine.hpp"
#include "sim/engine_builder.hpp"
#include "sim/serving_stats.hpp"
#include "sim/timeline.hpp"

namespace metro {
namespace {

using sim::Engine;
using sim::LiveRequest;

std::vector<LiveRequest> live_requests(const std::vector<Request>& requests) {
  std::vector<LiveRequest> live;
  live.reserve(requests.size());
  for (const Request& request : requests) {
    LiveRequest& added = live.emplace_back();
    added.arrival_s = request.arrival_s;
    added.prompt = std::max(request.prompt_tokens, 1);  // the token that opens every text
    added.output = request.output_tokens;
    added.prefill_goal = added.prompt;
  }
  return live;
}

/// Feeds requests to the engines, always to the one whose next step starts first: what that step
/// hands on cannot come too late for any other.
class Simulation {
 public:
  explicit Simulation(const SimulationConfig& config, SimulationCache& cache)
      : config_(config), stats_(config), requests_(live_requests(config.requests)) {
    const int prefill_gpus = config.prefill_gpus;
    const int gpus = config.deployment.gpus;
    decode_part_ = sim::build_engine(config, cache, gpus - prefill_gpus, sim::EngineRole::kDecode);
    decode_engine_ = make_engine(decode_part_, prefill_gpus, gpus - prefill_gpus);
    if (prefill_gpus == 0) return;
    sim::EnginePart part =
        sim::build_engine(config, cache, prefill_gpus, sim::EngineRole::kPrefill);
    transfer_s_per_token_ = sim::kv_transfer_s_per_token(config, part.memory, decode_part_.memory);
    prefill_engine_ = make_engine(part, 0, prefill_gpus);
  }

  SimulationResult run(const std::function<void(std::size_t, std::size_t)>& progress) {
    submit_first();
    for (;;) {
      const double decode_start = decode_engine_->next_start();
      const double prefill_start = prefill_engine_ ? prefill_engine_->next_start() : Engine::kNever;
      if (decode_start == Engine::kNever && prefill_start == Engine::kNever) break;
      Engine& engine =
          prefill_start <= decode_start && prefill_engine_ ? *prefill_engine_ : *decode_engine_;
      const double end = engine.step();
      for (const std::int32_t id : engine.prefilled()) {
        const LiveRequest& request = requests_[static_cast<std::size_t>(id)];
        decode_engine_->submit(id, end + transfer_s_per_token_ * request.prompt);
      }
      for (std::size_t i = 0; i < engine.completed().size(); ++i) keep_concurrency(end);
      if (progress && !engine.completed().empty()) {
        progress(static_cast<std::size_t>(stats_.completed() + stats_.rejected()),
                 requests_.size());
      }
    }
    return finish();
  }

 private:
  std::unique_ptr<Engine> make_engine(sim::EnginePart& part, int first_gpu, int num_gpus) {
    sim::TimelineRecorder* timeline = nullptr;
    if (config_.timeline_steps > 0) {
      timelines_.push_back(std::make_unique<sim::TimelineRecorder>(
          slices_, config_.timeline_steps, first_gpu, num_gpus, part.setup.num_moe_layers));
      timeline = timelines_.back().get();
    }
    return std::make_unique<Engine>(part.setup, std::move(part.experts), requests_, stats_,
                                    timeline);
  }

  void submit_first() {
    if (config_.concurrency == 0) {
      while (next_ < requests_.size()) submit_next(requests_[next_].arrival_s);
      return;
    }
    for (int i = 0; i < config_.concurrency; ++i) keep_concurrency(0);
  }

  /// The next request that can be served at all; those before it are rejected.
  void keep_concurrency(double now) {
    if (config_.concurrency == 0) return;
    while (next_ < requests_.size() && !submit_next(now)) {
    }
  }

  bool submit_next(double now) {
    const auto id = static_cast<std::int32_t>(next_);
    LiveRequest& request = requests_[next_++];
    request.arrival_s = now;
    const bool fits = std::int64_t{request.prompt} + request.output <= config_.model.max_position &&
                      decode_engine_->can_serve(request) &&
                      (!prefill_engine_ || prefill_engine_->can_serve(request));
    if (!fits) {
      stats_.add_rejection();
      return false;
    }
    (prefill_engine_ ? *prefill_engine_ : *decode_engine_).submit(id, now);
    return true;
  }

  /// Nothing served has no times: the mean of none would be told as 0.
  [[noreturn]] void fail_unserved() const {
    const auto least = std::ranges::min(requests_, {}, [](const LiveRequest& request) {
      return std::int64_t{request.prompt} + request.output;
    });
    throw Error(ErrorCode::kInfeasible,
                fmt::format("none of the {} requests can be served: the shortest has {} prompt and "
                            "{} output tokens, {} takes {} in all and the KV cache of a rank holds "
                            "{}",
                            requests_.size(), least.prompt, least.output, config_.model.name,
                            config_.model.max_position, decode_part_.setup.limits.kv_capacity));
  }

  SimulationResult finish() {
    if (stats_.completed() == 0) fail_unserved();
    SimulationResult result = stats_.finish();
    result.submitted = static_cast<std::int64_t>(requests_.size());
    result.prefill_gpus = config_.prefill_gpus;
    result.decode_gpus = config_.deployment.gpus - config_.prefill_gpus;
    result.memory = decode_part_.memory;
    result.kv_capacity_tokens =
        decode_part_.setup.limits.kv_capacity * decode_part_.setup.num_ranks;
    result.timeline = std::move(slices_);
    return result;
  }

  const SimulationConfig& config_;
  sim::ServingStats stats_;
  std::vector<LiveRequest> requests_;
  std::vector<TimelineSlice> slices_;
  std::vector<std::unique_ptr<sim::TimelineRecorder>> timelines_;
  sim::EnginePart decode_part_;
  std::unique_ptr<Engine> decode_engine_;
  std::unique_ptr<Engine> prefill_engine_;  // null: the other does both
  double transfer_s_per_token_ = 0;
  std::size_t next_ = 0;
};

}  // namespace

SimulationResult simulate(const SimulationConfig& config, SimulationCache* cache,
                          const std::function<void(std::size_t, std::size_t)>& progress) {
  config.validate();
  SimulationCache own;
  return Simulation(config, cache != nullptr ? *cache : own).run(progress);
}

}  // namespace metro
