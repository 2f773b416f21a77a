// SPDX-License-Identifier: Apache-2.0
// The serving simulator under load: queues, memory, tables, pools and rearrangement.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "metro/error.hpp"
#include "report/chrome_trace.hpp"
#include "report/simulate_result.hpp"
#include "sim/pareto.hpp"
#include "sim/rearrangement.hpp"
#include "sim/routing_pool.hpp"
#include "support/small_serving.hpp"
#include "unit/io_support.hpp"

namespace metro::test {
namespace {

/// All of a result as text, to compare runs byte by byte.
std::string text_of(const SimulationConfig& config, const SimulationResult& result) {
  nlohmann::ordered_json json;
  report::append_simulation(json, config, result);
  return json.dump();
}

SimulationConfig busy(int gpus = 4) {
  SimulationConfig config = small_serving(small_model(), gpus);
  config.requests = equal_requests(200, 100, 20);
  set_poisson_arrivals(config.requests, 400, 3);
  return config;
}

std::string message_of(const SimulationConfig& config, ErrorCode code) {
  try {
    simulate(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "(nothing thrown)";
}

TEST(Simulate, LittlesLaw) {
  for (const double rate : {50.0, 400.0, 5000.0}) {
    SimulationConfig config = busy();
    config.requests = equal_requests(500, 100, 20);
    set_poisson_arrivals(config.requests, rate, 1);
    const SimulationResult result = simulate(config);
    const double arrival_rate = 500 / result.simulated_s;
    const double in_flight = arrival_rate * result.latency_ms.mean * 1e-3;
    // Steps see a request from their next start on: it is counted up to one step late.
    EXPECT_NEAR(result.mean_in_flight, in_flight, 0.06 * in_flight + 0.05) << rate;
  }
}

TEST(Simulate, ConcurrencyIsKept) {
  SimulationConfig config = busy();
  config.concurrency = 8;
  const SimulationResult result = simulate(config);
  EXPECT_EQ(result.completed, 200);
  EXPECT_LE(result.mean_in_flight, 8 + 1e-9);
  EXPECT_GT(result.mean_in_flight, 7.8);
  EXPECT_LE(result.mean_batch, 8 + 1e-9);
}

TEST(Simulate, MaxBatchBoundsTheBatch) {
  SimulationConfig config = busy();
  config.max_batch = 4;
  EXPECT_LE(simulate(config).mean_batch, 4);
  config.max_batch = 0;
  EXPECT_GT(simulate(config).mean_batch, 4) << "the bound was one";
}

TEST(Simulate, ShortMemoryPreemptsAndLosesNothing) {
  SimulationConfig config = busy(2);
  config.deployment.tp = 2;  // one rank, one cache
  config.requests = equal_requests(60, 50, 200);
  config.trace = small_serving(config.model, 2).trace;
  limit_context(config, 1000);
  const SimulationResult result = simulate(config);
  EXPECT_GE(result.kv_capacity_tokens, 1000);
  EXPECT_LT(result.kv_capacity_tokens, 1100);
  EXPECT_GT(result.preemptions, 0);
  EXPECT_GT(result.recomputed_tokens, 0);
  EXPECT_EQ(result.completed, 60);
  EXPECT_EQ(result.output_tokens, 60 * 200);
  EXPECT_EQ(result.prompt_tokens, 60 * 50);
  EXPECT_LE(result.kv_use_peak, 1);
  EXPECT_GT(result.kv_use_peak, 0.9);
}

TEST(Simulate, RequestsThatCannotBeServedAreRejected) {
  SimulationConfig config = busy();
  config.requests = {{0, 4000, 97}, {0, 4000, 96}, {1, 10, 2}};
  SimulationResult result = simulate(config);
  EXPECT_EQ(result.submitted, 3);
  EXPECT_EQ(result.rejected, 1) << "4,097 tokens are beyond the context of 4,096";
  EXPECT_EQ(result.completed, 2);
  limit_context(config, 500);
  config.concurrency = 1;  // a rejected request makes room for the next
  result = simulate(config);
  EXPECT_EQ(result.rejected, 2);
  EXPECT_EQ(result.completed, 1);
}

TEST(Simulate, ServingNothingIsNoResult) {
  SimulationConfig config = busy();
  config.requests = {{0, 10, 2}, {0, 4, 3}};
  config.model.max_position = 1;
  EXPECT_EQ(
      io_test::message_of([&] { simulate(config); }, ErrorCode::kInfeasible)
          .find("none of the 2 requests can be served: the shortest has 4 prompt and 3 output "
                "tokens, "),
      0U);
}

TEST(Simulate, ARequestWithoutAnswerEndsWithItsPrompt) {
  SimulationConfig config = busy();
  config.requests = {{0, 100, 0}, {0, 0, 3}};
  const SimulationResult result = simulate(config);
  EXPECT_EQ(result.completed, 2);
  EXPECT_EQ(result.output_tokens, 3);
  EXPECT_EQ(result.prompt_tokens, 101) << "an empty prompt still opens with a token";
}

TEST(Simulate, WeightsMustFit) {
  SimulationConfig config = busy();
  config.gpu.memory_bytes = 1e6;
  const std::string message = message_of(config, ErrorCode::kInfeasible);
  EXPECT_NE(message.find("small on 4 H100 GPUs"), std::string::npos) << message;
}

TEST(Simulate, FaultyConfigurationsAreNamed) {
  const auto message = [](auto&& spoil) {
    SimulationConfig config = busy();
    spoil(config);
    return message_of(config, ErrorCode::kUsage);
  };
  EXPECT_EQ(message([](auto& c) { c.policy = "best"; }).substr(0, 29),
            "unknown policy 'best', known:");
  EXPECT_EQ(message([](auto& c) { c.algorithm = "best"; }), "unknown placement algorithm 'best'");
  EXPECT_EQ(message([](auto& c) { c.profile = "best"; }), "unknown router profile 'best'");
  EXPECT_EQ(message([](auto& c) { c.replication = 0.5; }),
            "replication is 0.5, must be at least 1");
  EXPECT_EQ(message([](auto& c) { c.chunk = 0; }), "chunk is 0, must be at least 1");
  EXPECT_EQ(message([](auto& c) { c.draft_acceptance = std::nan(""); }),
            "draft_acceptance is nan, must be 0..1");
  EXPECT_EQ(message([](auto& c) { c.prefill_gpus = 4; }),
            "prefill_gpus is 4, must be 0..3: others must decode");
  EXPECT_EQ(message([](auto& c) { c.requests = {{1, 1, 1}, {0, 1, 1}}; }),
            "requests[1] arrives at 0 s with 1 + 1 tokens, must be in order of arrival from 0 with "
            "0..1073741824 tokens each");
}

TEST(Simulate, ATraceMustBeTheModels) {
  SimulationConfig config = busy();
  config.model = small_model(32);
  EXPECT_EQ(message_of(config, ErrorCode::kInput), "num_experts is 16, must be 32 as small has");
  config.model = small_model(16, 4, 3);
  EXPECT_EQ(message_of(config, ErrorCode::kInput),
            "num_layers is 4, must be at most 3 as small has");
}

TEST(Simulate, TableAgreesWithFull) {
  // Replicas, drafts and prompts among decodes; 24 layers that repeat the trace's 8.
  SimulationConfig config = small_serving(small_model(32, 4, 8), 4);
  config.model.num_layers = 24;
  config.requests = equal_requests(150, 60, 40);
  // Half loaded: near saturation the queue makes a large difference of a small one.
  set_poisson_arrivals(config.requests, 100, 2);
  config.replication = 1.5;
  for (const char* policy : {"even", "optimal", "home", "auto"}) {
    for (const int drafts : {0, 2}) {
      config.policy = policy;
      config.draft_tokens = drafts;
      config.fidelity = Fidelity::kTable;
      const SimulationResult table = simulate(config);
      config.fidelity = Fidelity::kFull;
      const SimulationResult full = simulate(config);
      EXPECT_NEAR(table.tpot_ms.mean, full.tpot_ms.mean, 0.01 * full.tpot_ms.mean)
          << policy << " with " << drafts << " drafts";
      EXPECT_NEAR(table.max_activated, full.max_activated, 0.03 * full.max_activated) << policy;
      EXPECT_EQ(table.output_tokens, full.output_tokens);
    }
  }
}

// `auto` is one of its choices at each batch size, and by its own reckoning the best.
TEST(Simulate, AutoIsTheBestOfItsChoices) {
  SimulationConfig config = small_serving(small_model(32, 4, 8), 8);
  config.requests = equal_requests(64, 0, 40);  // steps only decode
  config.replication = 1.5;
  std::map<std::string, int> wins;
  for (const int width : {256, 4096}) {  // launches count, experts count
    config.model.hidden = config.model.expert_intermediate = width;
    for (const int concurrency : {2, 16, 64}) {
      for (const Fidelity fidelity : {Fidelity::kTable, Fidelity::kFull}) {
        SCOPED_TRACE(testing::Message() << width << " wide, " << concurrency << " requests");
        config.concurrency = concurrency;
        config.fidelity = fidelity;
        const auto run = [&](std::string_view policy) {
          config.policy = config.prefill_policy = policy;
          return simulate(config);
        };
        std::string best;
        double least = 1e9;
        for (const char* policy : {"home", "optimal", "hybrid"}) {
          const double tpot = run(policy).tpot_ms.mean;
          if (tpot >= least) continue;
          least = tpot;
          best = policy;
        }
        const SimulationResult chosen = run(kAutoPolicy);
        EXPECT_LE(chosen.tpot_ms.mean, least * 1.002) << best << " is best";
        EXPECT_GE(chosen.tpot_ms.mean, least * 0.99) << "it has no other way to route";
        EXPECT_EQ(chosen.completed, 64);
        ++wins[best];
      }
    }
  }
  EXPECT_GE(wins.size(), 2U) << "else a constant would pass";
}

TEST(Simulate, AutoHasNothingToChooseWithoutReplicas) {
  SimulationConfig config = busy();
  const SimulationResult home = [&] {
    config.policy = config.prefill_policy = "home";
    return simulate(config);
  }();
  config.policy = config.prefill_policy = kAutoPolicy;
  EXPECT_EQ(simulate(config).tpot_ms.mean, home.tpot_ms.mean);
  config.deployment.tensor_sharded_experts = true;
  EXPECT_GT(simulate(config).tpot_ms.mean, 0);
}

TEST(Simulate, PoliciesComeInTheirOrder) {
  SimulationConfig config = small_serving(small_model(32, 4, 8), 8);
  config.model.hidden = config.model.expert_intermediate = 4096;  // experts, not launches, count
  config.requests = equal_requests(64, 20, 40);
  config.concurrency = 16;
  const auto tpot = [&](double replication, const char* policy) {
    config.replication = replication;
    config.policy = policy;
    return simulate(config).tpot_ms.mean;
  };
  const double none = tpot(1, "home");
  EXPECT_LT(tpot(1.5, "optimal"), none);
  EXPECT_LE(tpot(1.5, "optimal"), tpot(1.5, "metro-paper") * 1.001);
  EXPECT_LT(tpot(1.5, "metro-paper"), tpot(1.5, "even"));
  EXPECT_GT(tpot(1.5, "even"), none) << "the even split wakes every replica";
}

TEST(Simulate, ACacheChangesNothing) {
  SimulationCache cache;
  std::map<std::string, std::string> alone;
  std::vector<SimulationConfig> configs;
  for (const char* policy : {"even", "optimal", "auto"}) {
    for (const double replication : {1.0, 1.5}) {
      for (const int gpus : {2, 4}) {
        configs.push_back(busy(gpus));
        configs.back().policy = policy;
        configs.back().replication = replication;
        configs.back().trace = configs.front().trace;
      }
    }
  }
  std::vector<std::string> shared(configs.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < configs.size(); i += 4) {
          shared[i] = text_of(configs[i], simulate(configs[i], &cache));
        }
      });
    }
  }
  for (std::size_t i = 0; i < configs.size(); ++i) {
    EXPECT_EQ(shared[i], text_of(configs[i], simulate(configs[i]))) << i;
    EXPECT_EQ(shared[i], text_of(configs[i], simulate(configs[i], &cache))) << i;
  }
}

TEST(Simulate, ProfilesFollowTheModel) {
  EXPECT_EQ(sim::nearest_profile(*find_model("Qwen3-235B-A22B")).name, "qwen3-235b");
  EXPECT_EQ(sim::nearest_profile(*find_model("Qwen3-30B-A3B")).name, "qwen3-30b");
  EXPECT_EQ(sim::nearest_profile(*find_model("DeepSeek-V3")).name, "deepseek-v3");
  EXPECT_EQ(sim::nearest_profile(*find_model("Kimi-K2")).name, "kimi-k2");
  EXPECT_EQ(sim::nearest_profile(*find_model("gpt-oss-120b")).name, "gpt-oss-120b");
  EXPECT_EQ(sim::nearest_profile(*find_model("gpt-oss-20b")).name, "gpt-oss-20b");
  const ModelConfig model = small_model(24, 3, 40);
  const sim::RoutingPool pool = sim::pool_of_profile(*find_router_profile("uniform"), model, 5, 1);
  EXPECT_EQ(pool.num_experts(), 24);
  EXPECT_EQ(pool.topk(), 3);
  EXPECT_EQ(pool.num_layers(), 32);
  EXPECT_EQ(pool.decode->trace().info().sequence_lengths.front(), 6) << "room for 5 drafts";
}

TEST(Simulate, FetchedSlotsAreThoseOfTheBusiestGpu) {
  const auto placement = [](std::vector<std::int32_t> experts) {
    LayerPlacement layer;
    layer.num_experts = 4;
    layer.num_gpus = 2;
    layer.replica_to_gpu = contiguous_gpus(static_cast<int>(experts.size()), 2);
    layer.replica_to_expert = std::move(experts);
    return Placement{4, 2, {layer}};
  };
  const Placement before = placement({0, 1, 2, 2, 3, 0});
  EXPECT_EQ(sim::fetched_slots(before, before, 1), 0);
  EXPECT_EQ(sim::fetched_slots(before, placement({2, 0, 1, 3, 0, 2}), 1), 0) << "only reordered";
  EXPECT_EQ(sim::fetched_slots(before, placement({3, 1, 2, 1, 2, 0}), 1), 1);
  EXPECT_EQ(sim::fetched_slots(before, placement({0, 1, 3, 1, 2, 0}), 3), 3) << "a layer thrice";
}

TEST(Simulate, RearrangingCostsTime) {
  for (const Fidelity fidelity : {Fidelity::kFull, Fidelity::kTable}) {
    SimulationConfig config = busy();
    config.fidelity = fidelity;
    config.replication = 1.5;
    const SimulationResult never = simulate(config);
    config.rearrange_every = 10;
    const SimulationResult often = simulate(config);
    EXPECT_EQ(never.rearranged_bytes, 0);
    EXPECT_GT(often.rearranged_bytes, 0);
    EXPECT_EQ(often.stage_share.back().first, "rearrange");
    EXPECT_GT(often.stage_share.back().second, 0);
    EXPECT_EQ(often.output_tokens, never.output_tokens);
  }
}

TEST(Simulate, TimelineShowsStragglers) {
  SimulationConfig config = busy();
  config.fidelity = Fidelity::kFull;
  config.timeline_steps = 5;
  const SimulationResult result = simulate(config);
  std::map<int, double> busy_until;
  std::map<std::pair<std::int64_t, int>, int> stragglers;
  std::map<std::pair<std::int64_t, int>, double> straggler_us;
  std::map<std::pair<std::int64_t, int>, double> slowest_us;
  for (const TimelineSlice& slice : result.timeline) {
    EXPECT_GE(slice.start_us, busy_until[slice.gpu] - 1e-6) << "one thing at a time, in order";
    busy_until[slice.gpu] = slice.start_us + slice.duration_us;
    if (slice.name != "experts") continue;
    EXPECT_GE(slice.layer, 0);
    const std::pair where(slice.step, slice.layer);
    slowest_us[where] = std::max(slowest_us[where], slice.duration_us);
    if (!slice.straggler) continue;
    ++stragglers[where];
    straggler_us[where] = slice.duration_us;
  }
  EXPECT_EQ(straggler_us, slowest_us);
  EXPECT_EQ(stragglers.size(), 5U * 4U);
  for (const auto& [where, count] : stragglers) EXPECT_EQ(count, 1);
  const auto json = nlohmann::json::parse(report::chrome_trace(result.timeline));
  EXPECT_EQ(json["traceEvents"].size(), result.timeline.size() + 4);
  EXPECT_EQ(text_of(config, result), text_of(config, simulate([&] {
                                               SimulationConfig plain = config;
                                               plain.timeline_steps = 0;
                                               return plain;
                                             }())))
      << "watching a full simulation does not change it";
}

TEST(Simulate, GoodputCountsWhatKeepsTheSlo) {
  SimulationConfig config = busy();
  const SimulationResult all = simulate(config);
  EXPECT_NEAR(all.goodput_requests_per_s, 200 / all.simulated_s, 1e-9);
  config.slo_ttft_ms = all.ttft_ms.p50;
  const SimulationResult half = simulate(config);
  EXPECT_NEAR(half.goodput_requests_per_s / all.goodput_requests_per_s, 0.5, 0.01);
  config.slo_tpot_ms = all.tpot_ms.mean * 1e-3;
  EXPECT_EQ(simulate(config).goodput_requests_per_s, 0);
}

TEST(ParetoFrontier, KeepsWhatNoneBeats) {
  EXPECT_EQ(pareto_frontier({{10, 5}, {5, 5}, {20, 9}, {20, 8}, {5, 5}, {30, 9}}),
            (std::vector<bool>{false, true, true, false, true, false}));
  EXPECT_TRUE(pareto_frontier({}).empty());
}

}  // namespace
}  // namespace metro::test
