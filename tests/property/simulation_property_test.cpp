// SPDX-License-Identifier: Apache-2.0
// Invariant 8: a simulation conserves requests and tokens, its clock never runs back, and one seed
// gives the same bytes; whatever it serves, and however short its memory is.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metro/router.hpp"
#include "report/simulate_result.hpp"
#include "sim/batch_drawer.hpp"
#include "sim/pareto.hpp"
#include "sim/rank.hpp"
#include "sim/serving_stats.hpp"
#include "support/small_serving.hpp"

namespace metro::test {
namespace {

std::vector<Request> any_requests() {
  const int count = *rc::gen::inRange(1, 40);
  std::vector<Request> requests;
  double now = 0;
  for (int i = 0; i < count; ++i) {
    requests.push_back({now, *rc::gen::inRange(0, 300), *rc::gen::inRange(0, 60)});
    now += 1e-3 * *rc::gen::element(0, 0, 1, 7, 200);
  }
  return requests;
}

SimulationConfig any_config() {
  static const SimulationConfig base = small_serving(small_model(), 1);  // one trace for all
  SimulationConfig config = base;
  config.deployment.gpus = *rc::gen::element(1, 2, 4);
  config.deployment.tp = config.deployment.gpus > 1 ? *rc::gen::element(1, 2) : 1;
  config.model.expert_intermediate = 840;  // which any part of eight GPUs can share equally
  config.deployment.tensor_sharded_experts = *rc::gen::element(false, false, true);
  config.policy = std::string((*rc::gen::elementOf(std::vector<PolicyInfo const*>{
                                   find_policy("even"), find_policy("optimal"),
                                   find_policy("shares"), find_policy("home")}))
                                  ->name);
  config.requests = any_requests();
  config.concurrency = *rc::gen::element(0, 0, 1, 5);
  config.max_batch = *rc::gen::element(0, 1, 6);
  config.chunk = *rc::gen::element(1, 16, 100, 8192);
  config.draft_tokens = *rc::gen::element(0, 0, 1, 3);
  config.draft_acceptance = *rc::gen::element(0.0, 0.6, 1.0);
  config.rearrange_every = *rc::gen::element(0, 0, 3);
  config.fidelity = *rc::gen::element(Fidelity::kTable, Fidelity::kFull);
  if (config.deployment.gpus == 4 && config.deployment.tp == 1) {
    config.prefill_gpus = *rc::gen::element(0, 1, 2);
  }
  const int least_gpus = config.prefill_gpus > 0 ? 1 : config.deployment.gpus;
  if (!config.deployment.tensor_sharded_experts && least_gpus > 1) {  // no second copy on a GPU
    config.replication = *rc::gen::element(1.0, 1.5);
  }
  config.seed = *rc::gen::inRange<std::uint64_t>(0, 5);
  config.timeline_steps = 20;
  if (config.prefill_gpus == 0 && *rc::gen::element(false, true)) limit_context(config, 400);
  return config;
}

RC_GTEST_PROP(SimulationProperty, ConservesRequestsAndTokens, ()) {
  const SimulationConfig config = any_config();
  const SimulationResult result = simulate(config);
  RC_ASSERT(result.submitted == static_cast<std::int64_t>(config.requests.size()));
  RC_ASSERT(result.completed + result.rejected == result.submitted);
  std::int64_t prompts = 0;
  std::int64_t outputs = 0;
  for (const Request& request : config.requests) {
    prompts += std::max(request.prompt_tokens, 1);
    outputs += request.output_tokens;
  }
  if (result.rejected == 0) {
    RC_ASSERT(result.prompt_tokens == prompts);
    RC_ASSERT(result.output_tokens == outputs);
  }
  RC_ASSERT(result.output_tokens <= outputs);
  RC_ASSERT(result.kv_use_peak <= 1.0);
  RC_ASSERT(result.ttft_ms.mean >= 0 && result.itl_ms.p50 >= 0);
  RC_ASSERT(result.latency_ms.mean >= result.ttft_ms.mean);
}

RC_GTEST_PROP(SimulationProperty, TheClockNeverRunsBack, ()) {
  const SimulationResult result = simulate(any_config());
  std::map<int, double> busy_until;
  for (const TimelineSlice& slice : result.timeline) {
    RC_ASSERT(slice.duration_us >= 0);
    RC_ASSERT(slice.start_us >= busy_until[slice.gpu] - 1e-3);
    busy_until[slice.gpu] = slice.start_us + slice.duration_us;
  }
}

RC_GTEST_PROP(SimulationProperty, OneSeedGivesTheSameBytes, ()) {
  const SimulationConfig config = any_config();
  const auto bytes = [&] {
    nlohmann::ordered_json json;
    report::append_simulation(json, config, simulate(config));
    return json.dump();
  };
  RC_ASSERT(bytes() == bytes());
}

/// A rank alone, its requests all there from the start; every step takes a second.
RC_GTEST_PROP(SimulationProperty, RanksAccountForEveryToken, ()) {
  sim::RankLimits limits;
  limits.kv_capacity = *rc::gen::inRange(150, 400);
  limits.kv_per_request = *rc::gen::inRange(0, 10);
  limits.max_running = *rc::gen::inRange(1, 12);
  limits.chunk = *rc::gen::inRange(1, 200);
  limits.draft_tokens = *rc::gen::inRange(0, 4);
  limits.draft_acceptance = *rc::gen::element(0.0, 0.5, 1.0);
  std::vector<sim::LiveRequest> requests(static_cast<std::size_t>(*rc::gen::inRange(1, 20)));
  const SimulationConfig config;
  sim::ServingStats stats(config);
  sim::Rank rank(limits, requests, stats, 1);
  std::int64_t tokens = 0;
  std::size_t served = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = requests[i].prefill_goal = *rc::gen::inRange(1, 120);
    requests[i].output = *rc::gen::inRange(0, 60);
    if (!rank.can_serve(requests[i])) continue;
    rank.enqueue(static_cast<std::int32_t>(i));
    tokens += requests[i].output;
    ++served;
  }
  sim::StepOutcome outcome(limits.draft_tokens);
  std::size_t completed = 0;
  for (int step = 0; !rank.idle(); ++step) {
    RC_ASSERT(step < 100'000);
    const StepLoad& load = rank.plan();
    RC_ASSERT(load.decode_rows + load.prefill_tokens > 0);  // no step without progress
    RC_ASSERT(load.prefill_tokens <= limits.chunk);
    RC_ASSERT(load.decode_rows == load.decode_requests * (1 + limits.draft_tokens));
    outcome.clear();
    rank.finish(step, step + 1, outcome);
    completed += outcome.completed.size();
    std::int64_t held = 0;
    for (const sim::LiveRequest& request : requests) held += request.held;
    RC_ASSERT(rank.kv_used() == held);
    RC_ASSERT(held <= limits.kv_capacity);
  }
  RC_ASSERT(completed == served);
  RC_ASSERT(rank.kv_used() == 0 && rank.pending_tokens() == 0);
  std::int64_t generated = 0;
  for (const sim::LiveRequest& request : requests) generated += request.generated;
  RC_ASSERT(generated == tokens);
}

RC_GTEST_PROP(SimulationProperty, BatchesHaveWhatStepsAsk, ()) {
  static const auto trace = small_serving(small_model(), 1).trace;
  const auto pool =
      std::make_shared<const sim::RoutingPool>(sim::pool_of_trace(trace, small_model()));
  const int drafts = *rc::gen::inRange(0, 12);  // sequences have 8 tokens
  sim::BatchDrawer drawer(pool, drafts);
  const sim::StepTokens tokens{*rc::gen::inRange(0, 400), *rc::gen::inRange(0, 700)};
  const std::uint64_t key = *rc::gen::arbitrary<std::uint64_t>();
  drawer.draw(tokens, key);
  const int layer = *rc::gen::inRange(0, 4);
  const TopkView batch = drawer.gather(layer);
  RC_ASSERT(batch.num_tokens == tokens.decode_requests * (1 + drafts) + tokens.prefill_tokens);
  RC_ASSERT(batch.ids.size() == static_cast<std::size_t>(batch.num_tokens * batch.topk));
  for (const std::int32_t id : batch.ids) RC_ASSERT(id >= 0 && id < 16);
  const std::vector<std::int32_t> first(batch.ids.begin(), batch.ids.end());
  drawer.draw({3, 5}, 1);
  drawer.draw(tokens, key);
  RC_ASSERT(std::ranges::equal(drawer.gather(layer).ids, first));
}

RC_GTEST_PROP(SimulationProperty, FrontierIsWhatNoPointBeats, ()) {
  const int count = *rc::gen::inRange(0, 12);
  std::vector<ServingTradeOff> points;
  for (int i = 0; i < count; ++i) {
    points.push_back({static_cast<double>(*rc::gen::inRange(0, 5)),
                      static_cast<double>(*rc::gen::inRange(0, 5))});
  }
  const std::vector<bool> best = pareto_frontier(points);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const bool beaten = std::ranges::any_of(points, [&](const ServingTradeOff& other) {
      return other.tpot_ms <= points[i].tpot_ms &&
             other.output_tokens_per_s_gpu >= points[i].output_tokens_per_s_gpu &&
             (other.tpot_ms < points[i].tpot_ms ||
              other.output_tokens_per_s_gpu > points[i].output_tokens_per_s_gpu);
    });
    RC_ASSERT(best[i] == !beaten);
  }
}

}  // namespace
}  // namespace metro::test
