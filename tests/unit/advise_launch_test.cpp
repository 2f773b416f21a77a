// SPDX-License-Identifier: Apache-2.0
// How an engine is started as an advice says: what each can run, and that commands say what was
// simulated.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "advise/launch.hpp"
#include "metro/advise.hpp"

namespace metro::test {
namespace {

SimulationConfig serving(const char* engine, int gpus = 8, int tp = 8) {
  SimulationConfig config;
  config.model = *find_model("Qwen3-235B-A22B");  // 128 experts
  config.gpu = *find_gpu("h200");
  config.deployment.gpus = gpus;
  config.deployment.tp = tp;
  config.deployment.engine = engine;
  return config;
}

const AdviceCandidate kOff;
const AdviceCandidate kMoeTpCandidate{.tensor_sharded = true};
const AdviceCandidate kHome{.replication = 1.25};
const AdviceCandidate kOptimal{.replication = 1.25, .policy = "optimal"};
const AdviceCandidate kShards{.shards = 2};

/// An advice for the last of these, whose TPOTs fall from 10 ms by 1.
Advice made_up(const std::vector<AdviceCandidate>& candidates) {
  Advice advice;
  for (const AdviceCandidate& candidate : candidates) {
    AdviceRow& row = advice.rows.emplace_back();
    row.candidate = candidate;
    row.eligible = true;
    row.result.tpot_ms.mean = 11 - static_cast<double>(advice.rows.size());
  }
  advice.chosen = advice.rows.size() - 1;
  return advice;
}

std::string command(const SimulationConfig& serving, const AdviceCandidate& candidate) {
  const auto launch = launch_of(serving, made_up({candidate}), 0.01);
  EXPECT_TRUE(launch && launch->refusal.empty() && launch->row == 0U);
  return launch ? launch->command : "";
}

bool can_run(const SimulationConfig& serving, const AdviceCandidate& candidate) {
  return launch_of(serving, made_up({candidate}), 0.01)->refusal.empty();
}

TEST(AdviceLaunch, Vllm) {
  EXPECT_EQ(command(serving("vllm"), kOff),
            "vllm serve MODEL --tensor-parallel-size 8 \\\n    --enable-expert-parallel");
  EXPECT_EQ(command(serving("VLLM"), kMoeTpCandidate), "vllm serve MODEL --tensor-parallel-size 8");
  EXPECT_EQ(command(serving("vllm", 16, 4), kOptimal),
            "METRO_VLLM_DECODE=optimal METRO_VLLM_PREFILL=home METRO_VLLM_PLACEMENT=homed \\\n"
            "    vllm serve MODEL --tensor-parallel-size 4 --data-parallel-size 4 \\\n"
            "    --enable-expert-parallel --enable-eplb \\\n"
            "    --eplb-config '{\"num_redundant_experts\": 32}'");
  const AdviceCandidate stock{1.25, false, "eplb", "hash", "hash"};
  EXPECT_EQ(command(serving("vllm"), stock).find("METRO"), std::string::npos)
      << "vLLM's own policy needs no plugin";
  // The plugin calls the paper's greedy `metro`.
  const AdviceCandidate paper{1.25, false, "homed", "metro-paper", "shares"};
  EXPECT_EQ(command(serving("vllm"), paper).find("METRO_VLLM_DECODE=metro METRO_VLLM_PLACEMENT"),
            0U);
}

TEST(AdviceLaunch, Sglang) {
  EXPECT_EQ(command(serving("sglang", 16, 4), kHome),
            "METRO_SGLANG_DECODE=home \\\n"
            "    python -m sglang.launch_server --model-path MODEL \\\n"
            "    --tp 16 --ep-size 16 --dp 4 --enable-dp-attention \\\n"
            "    --ep-num-redundant-experts 32 \\\n"
            "    --init-expert-location location.json");
  EXPECT_EQ(command(serving("sglang"), kMoeTpCandidate),
            "python -m sglang.launch_server --model-path MODEL \\\n    --tp 8 --ep-size 1");
}

TEST(AdviceLaunch, TensorRtLlm) {
  EXPECT_EQ(command(serving("trtllm", 16, 1), kShards),
            "cat > options.yaml <<END\n"
            "tensor_parallel_size: 16\n"
            "moe_expert_parallel_size: 8\n"
            "moe_tensor_parallel_size: 2\n"
            "enable_attention_dp: true\n"
            "END\n"
            "trtllm-serve MODEL --config options.yaml");
  const std::string sharded = command(serving("trtllm"), kMoeTpCandidate);
  EXPECT_NE(sharded.find("moe_expert_parallel_size: 1\nmoe_tensor_parallel_size: 8\n"),
            std::string::npos);
  EXPECT_NE(sharded.find("enable_attention_dp: false"), std::string::npos);
  const AdviceCandidate even{1.25, false, "eplb", "even", "even"};
  EXPECT_NE(command(serving("trtllm"), even).find("load_balancer: moe_load_balancer.yaml"),
            std::string::npos);
}

TEST(AdviceLaunch, WhatAnEngineCannotRun) {
  const AdviceCandidate even{1.25, false, "eplb", "even", "even"};
  for (const char* engine : {"vllm", "sglang"}) {
    EXPECT_FALSE(can_run(serving(engine), kShards)) << engine;
    EXPECT_FALSE(can_run(serving(engine), even)) << engine;
    EXPECT_TRUE(can_run(serving(engine), kOptimal)) << engine;
    SimulationConfig all_to_all = serving(engine, 8, 1);
    all_to_all.deployment.dispatch = Dispatch::kAllToAll;
    EXPECT_FALSE(can_run(all_to_all, kOptimal)) << engine;
    EXPECT_TRUE(can_run(all_to_all, kHome)) << engine;
    SimulationConfig groups = serving(engine);
    groups.deployment.ep = 4;
    EXPECT_FALSE(can_run(groups, kOff)) << engine;
    SimulationConfig two_servers = serving(engine);
    two_servers.prefill_gpus = 4;
    EXPECT_FALSE(can_run(two_servers, kOff)) << engine;
  }
  EXPECT_FALSE(can_run(serving("trtllm"), kHome));
  EXPECT_FALSE(can_run(serving("trtllm", 16, 4), kOff));
  EXPECT_FALSE(launch_of(serving(""), made_up({kOff}), 0.01));
  EXPECT_FALSE(launch_of(serving("another"), made_up({kOff}), 0.01));
}

TEST(AdviceLaunch, TheBestThatTheEngineCanRunStandsIn) {
  Advice advice = made_up({kOff, kHome, kOptimal, kShards});
  const auto vllm = launch_of(serving("vllm"), advice, 0.01);
  EXPECT_EQ(vllm->refusal, "it does not share experts over groups of GPUs");
  EXPECT_EQ(vllm->row, 2U);
  EXPECT_NE(vllm->command.find("METRO_VLLM_DECODE=optimal"), std::string::npos);
  advice.rows[2].eligible = false;
  EXPECT_EQ(launch_of(serving("vllm"), advice, 0.01)->row, 1U);
  EXPECT_EQ(launch_of(serving("vllm"), advice, 0.5)->row, 0U) << "the rule's least change";
  EXPECT_EQ(launch_of(serving("trtllm"), advice, 0.01)->row, 3U) << "which can run the advice";

  const auto none = launch_of(serving("vllm"), made_up({kShards}), 0.01);
  EXPECT_FALSE(none->row);
  EXPECT_EQ(none->command, "");
}

}  // namespace
}  // namespace metro::test
