// SPDX-License-Identifier: Apache-2.0
// Simulations that are small enough to work out by hand from the cost model.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "metro/cost.hpp"
#include "metro/simulate.hpp"
#include "support/small_serving.hpp"

namespace metro::test {
namespace {

/// One GPU with one expert: no routing, no chance.
SimulationConfig lone_expert() { return small_serving(small_model(1, 1), 1); }

double experts_us(const SimulationConfig& config, const CostModel& cost, std::int32_t tokens) {
  return config.model.num_moe_layers() * cost.expert_us(std::array{tokens});
}

/// Microseconds of a step that computes prompt tokens [begin, end) of one request.
double prefill_us(const SimulationConfig& config, std::int64_t begin, std::int64_t end, bool last) {
  const CostModel cost = cost_of(config, config.prefill_policy);
  StepLoad load;
  load.prefill_tokens = load.global_tokens = end - begin;
  for (std::int64_t token = begin; token < end; ++token) load.prefill_pairs += token + 1;
  load.logits_rows = last ? 1 : 0;
  return cost.step(load).total_us() +
         experts_us(config, cost, static_cast<std::int32_t>(end - begin));
}

/// Of a step that decodes one row over a context of that many tokens.
double decode_us(const SimulationConfig& config, std::int64_t context) {
  const CostModel cost = cost_of(config, config.policy);
  StepLoad load;
  load.decode_rows = load.logits_rows = load.global_tokens = 1;
  load.decode_requests = 1;
  load.decode_context_tokens = context;
  return cost.step(load).total_us() + experts_us(config, cost, 1);
}

double near(double value) { return 1e-9 * value; }

TEST(SimulateClosedForm, OneRequestIsArithmetic) {
  for (const Fidelity fidelity : {Fidelity::kFull, Fidelity::kTable}) {
    SimulationConfig config = lone_expert();
    config.fidelity = fidelity;
    config.requests = {{0, 512, 5}};  // 512: a size of the table's grid
    const SimulationResult result = simulate(config);
    const double ttft = prefill_us(config, 0, 512, true) * 1e-3;
    double decode = 0;
    for (std::int64_t token = 1; token < 5; ++token) decode += decode_us(config, 512 + token);
    decode *= 1e-3;
    EXPECT_EQ(result.completed, 1);
    EXPECT_EQ(result.steps, 5);
    EXPECT_NEAR(result.ttft_ms.mean, ttft, near(ttft));
    EXPECT_NEAR(result.tpot_ms.mean, decode / 4, near(decode));
    EXPECT_NEAR(result.itl_ms.mean, decode / 4, near(decode));
    EXPECT_NEAR(result.latency_ms.p99, ttft + decode, near(ttft + decode));
    EXPECT_NEAR(result.simulated_s, (ttft + decode) * 1e-3, near(ttft));
    EXPECT_NEAR(result.output_tokens_per_s, 5 / result.simulated_s, 1e-6);
    EXPECT_DOUBLE_EQ(result.max_activated, 1);
    EXPECT_DOUBLE_EQ(result.mean_batch, 1);
    double shares = 0;
    for (const auto& [stage, share] : result.stage_share) shares += share;
    EXPECT_NEAR(shares, 1, 1e-12);
  }
}

TEST(SimulateClosedForm, PromptsGoInChunks) {
  SimulationConfig config = lone_expert();
  config.fidelity = Fidelity::kFull;
  config.chunk = 100;
  config.requests = {{0, 250, 1}};
  const SimulationResult result = simulate(config);
  const double us = prefill_us(config, 0, 100, false) + prefill_us(config, 100, 200, false) +
                    prefill_us(config, 200, 250, true);
  EXPECT_EQ(result.steps, 3);
  EXPECT_NEAR(result.ttft_ms.mean, us * 1e-3, near(us));
  EXPECT_EQ(result.tpot_ms.mean, 0) << "one token has none";
}

TEST(SimulateClosedForm, AnIdleServerWaitsForTheNextRequest) {
  SimulationConfig config = lone_expert();
  config.requests = {{0, 64, 1}, {100, 64, 1}};
  const SimulationResult result = simulate(config);
  const double us = prefill_us(config, 0, 64, true);
  EXPECT_NEAR(result.ttft_ms.mean, us * 1e-3, near(us));
  EXPECT_NEAR(result.simulated_s, 100 + us * 1e-6, 1e-9);
}

TEST(SimulateClosedForm, DraftsMultiplyTokensOrRows) {
  SimulationConfig config = lone_expert();
  config.draft_tokens = 3;
  config.requests = {{0, 64, 9}};
  config.draft_acceptance = 1;
  EXPECT_EQ(simulate(config).steps, 1 + 2) << "8 tokens at 4 a step";
  config.draft_acceptance = 0;
  EXPECT_EQ(simulate(config).steps, 1 + 8);
  config.draft_acceptance = 0.5;  // 1 + 1/2 + 1/4 + 1/8 tokens a step
  config.requests = {{0, 64, 2001}};
  EXPECT_NEAR(static_cast<double>(simulate(config).steps), 2000 / 1.875, 50);
}

TEST(SimulateClosedForm, TensorShardedExpertsAreOneLookup) {
  SimulationConfig config = small_serving(small_model(4, 4), 2);  // every token takes all experts
  config.deployment.tensor_sharded_experts = true;
  config.requests = {{0, 1, 2}};
  const SimulationResult result = simulate(config);
  const CostModel cost = cost_of(config, config.policy);
  StepLoad load;
  load.decode_rows = load.logits_rows = load.global_tokens = 1;
  load.decode_requests = 1;
  load.decode_context_tokens = 2;
  const double us =
      cost.step(load).total_us() +
      config.model.num_moe_layers() * cost.tensor_sharded_us(std::vector<std::int32_t>(4, 1));
  EXPECT_NEAR(result.tpot_ms.mean, us * 1e-3, near(us));
  EXPECT_DOUBLE_EQ(result.max_activated, 2) << "4 active experts over 2 GPUs";
}

TEST(SimulateClosedForm, PoolsHandRequestsOn) {
  SimulationConfig config = lone_expert();
  config.deployment.gpus = 2;
  config.prefill_gpus = 1;
  config.requests = {{0, 64, 4}};
  const SimulationResult result = simulate(config);
  SimulationConfig alone = lone_expert();
  alone.requests = config.requests;
  const SimulationResult single = simulate(alone);
  EXPECT_NEAR(result.ttft_ms.mean, single.ttft_ms.mean, near(single.ttft_ms.mean))
      << "the first token comes from the prefill GPU";
  const double bytes = 64 * result.memory.kv_bytes_per_token;
  const double transfer_ms = 1e3 * bytes / config.gpu.link_bytes_per_s;
  EXPECT_NEAR(result.latency_ms.mean, single.latency_ms.mean + transfer_ms, 1e-9);
}

}  // namespace
}  // namespace metro::test
