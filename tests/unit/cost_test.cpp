// SPDX-License-Identifier: Apache-2.0
// The cost model against arithmetic done by hand, and against published sizes.
#include "metro/cost.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "cost/expected_experts.hpp"
#include "cost/kernel_table.hpp"
#include "cost/network.hpp"
#include "cost/serving_estimate.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"

namespace metro {
namespace {

const GpuSpec& h200() { return *find_gpu("h200"); }

Deployment on(int gpus, const ModelConfig& model, DataType weights = DataType::kBf16) {
  Deployment deployment;
  deployment.gpus = gpus;
  deployment.set_weights(model, weights);
  return deployment;
}

/// An engine that adds nothing, so that kernels alone are left.
Calibration bare_engine() {
  Calibration calibration;
  Calibration::Engine engine;
  engine.prefill_attention = 1;
  calibration.engines = {engine};
  return calibration;
}

TEST(CostModel, OneExpertOnOneGpuIsArithmetic) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  const Calibration bare = bare_engine();
  const CostModel cost(model, h200(), on(1, model), &bare);
  const auto& kernel = cost::expert_kernel(Architecture::kHopper, "", DataType::kBf16);
  const double parameters = 3.0 * 2048 * 768;
  const double stream = kernel.replica_us + parameters * 2 / (kernel.memory_efficiency * 4.8e6);
  const double multiply = 2 * parameters / (kernel.compute_efficiency * 989e6);
  const double p = kernel.sharpness;
  const double phi = std::pow(std::pow(stream, p) + std::pow(multiply, p), 1 / p) +
                     kernel.row_bytes * 2048 / 4.8e6;
  const std::int32_t one[] = {1};
  EXPECT_NEAR(cost.expert_us(one), kernel.base_us + phi, 1e-2 * phi);
  EXPECT_NEAR(cost.phi_us(1), phi, 1e-2 * phi);
}

TEST(CostModel, ExpertsOfAGpuAddUp) {
  const ModelConfig& model = *find_model("DeepSeek-V3");
  const CostModel cost(model, h200(), on(8, model, DataType::kFp8));
  const std::int32_t tokens[] = {0, 5, 3000, 70000, 0};
  EXPECT_DOUBLE_EQ(cost.expert_us(tokens),
                   cost.expert_base_us() + cost.phi_us(5) + cost.phi_us(3000) + cost.phi_us(70000));
  const std::int32_t none[] = {0, 0};
  EXPECT_EQ(cost.expert_us(none), 0);
  EXPECT_EQ(cost.phi_us(0), 0);
}

TEST(CostModel, OneGpuTalksToNobody) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  const CostModel cost(model, h200(), on(1, model));
  StepLoad load;
  load.decode_rows = load.logits_rows = load.global_tokens = 32;
  load.decode_context_tokens = 32 * 1000;
  const StepTimes times = cost.step(load);
  for (const Stage stage : {Stage::kAttentionSum, Stage::kDispatch, Stage::kExchange, Stage::kRoute,
                            Stage::kCombine, Stage::kDense, Stage::kShared, Stage::kExperts}) {
    EXPECT_EQ(times[stage], 0) << stage_name(stage);
  }
  EXPECT_GT(times[Stage::kAttention], 0);
  double sum = 0;
  for (std::size_t s = 0; s < kNumStages; ++s) sum += times.us[s];
  EXPECT_DOUBLE_EQ(sum, times.total_us());
}

/// Bytes by the table of public model facts (KV bf16 per token; one slot in every MoE layer).
TEST(CostModel, MemoryIsThePublishedSizes) {
  const auto memory = [](const char* name, DataType weights) {
    const ModelConfig& model = *find_model(name);
    Deployment deployment = on(8, model, weights);
    deployment.gpus = 8;
    return CostModel(model, *find_gpu("b200"), deployment).memory();
  };
  EXPECT_DOUBLE_EQ(memory("Qwen3-30B-A3B", DataType::kBf16).kv_bytes_per_token, 98304);
  EXPECT_DOUBLE_EQ(memory("Qwen3-235B-A22B", DataType::kBf16).kv_bytes_per_token, 192512);
  EXPECT_DOUBLE_EQ(memory("DeepSeek-V3", DataType::kFp8).kv_bytes_per_token, 70272);
  EXPECT_DOUBLE_EQ(memory("GLM-4.5", DataType::kBf16).kv_bytes_per_token, 376832);
  EXPECT_DOUBLE_EQ(memory("MiniMax-M2", DataType::kFp8).kv_bytes_per_token, 253952);
  EXPECT_NEAR(memory("Qwen3-30B-A3B", DataType::kBf16).slot_bytes, 0.45e9, 0.005e9);
  EXPECT_NEAR(memory("Qwen3-235B-A22B", DataType::kBf16).slot_bytes, 3.55e9, 0.005e9);
  EXPECT_NEAR(memory("DeepSeek-V3", DataType::kFp8).slot_bytes, 2.55e9, 0.01e9);
  // gpt-oss keeps 128 tokens in every other layer: half of 73,728 bytes grows.
  const MemoryUse gpt = memory("gpt-oss-120b", DataType::kFp4);
  EXPECT_DOUBLE_EQ(gpt.kv_bytes_per_token, 36864);
  EXPECT_DOUBLE_EQ(gpt.kv_bytes_per_request, 36864.0 * 128);
}

TEST(CostModel, WeightsOfAllGpusAreTheModel) {
  struct Case {
    const char* name;
    double billions;
  };
  for (const auto& [name, billions] :
       {Case{"Qwen3-30B-A3B", 30.5}, Case{"Qwen3-235B-A22B", 235}, Case{"DeepSeek-V3", 671},
        Case{"Kimi-K2", 1026}, Case{"gpt-oss-120b", 117}, Case{"Mixtral-8x7B", 46.7},
        Case{"GLM-4.5", 355}, Case{"Qwen3.5-397B-A17B", 397}}) {
    const ModelConfig& model = *find_model(name);
    Deployment deployment;
    const CostModel cost(model, *find_gpu("b300"), deployment);
    EXPECT_NEAR(cost.memory().weights_bytes / 2e9, billions, 0.015 * billions) << name;
  }
}

TEST(CostModel, ReplicasTakeMemoryFromTheCache) {
  const ModelConfig& model = *find_model("Qwen3-235B-A22B");
  Deployment plain = on(8, model);
  Deployment replicated = plain;
  replicated.slots_per_gpu = 24;
  const MemoryUse a = CostModel(model, *find_gpu("b200"), plain).memory();
  const MemoryUse b = CostModel(model, *find_gpu("b200"), replicated).memory();
  EXPECT_EQ(a.replica_bytes, 0);
  EXPECT_NEAR(b.replica_bytes, 8 * a.slot_bytes, 1);
  EXPECT_NEAR(b.replica_bytes, 28.4e9, 0.1e9) << "1.5x on 8 GPUs";
  EXPECT_NEAR(static_cast<double>(a.kv_capacity_tokens - b.kv_capacity_tokens),
              b.replica_bytes / a.kv_bytes_per_token, 2);
}

TEST(CostModel, ModelsThatDoNotFitHaveNoCache) {
  const ModelConfig& model = *find_model("DeepSeek-V3");
  EXPECT_EQ(CostModel(model, *find_gpu("h100"), on(1, model)).memory().kv_capacity_tokens, 0);
}

TEST(CostModel, RoutesOnlyWhereThereIsAChoice) {
  const ModelConfig& model = *find_model("Qwen3-235B-A22B");
  Deployment deployment = on(8, model);
  StepLoad load;
  load.decode_rows = 8;
  load.global_tokens = 64;
  EXPECT_EQ(CostModel(model, h200(), deployment).step(load)[Stage::kRoute], 0);
  deployment.slots_per_gpu = 24;
  const StepTimes gathered = CostModel(model, h200(), deployment).step(load);
  EXPECT_NEAR(gathered[Stage::kRoute], 94 * 2.3, 1e-9);
  EXPECT_EQ(gathered[Stage::kExchange], 0) << "every GPU has the batch";
  deployment.dispatch = Dispatch::kAllToAll;
  EXPECT_GT(CostModel(model, h200(), deployment).step(load)[Stage::kExchange], 0);
  deployment.policy = "hash";
  EXPECT_EQ(CostModel(model, h200(), deployment).step(load)[Stage::kExchange], 0);
}

// The rows of the table say what is exchanged and what a policy costs, all of them.
TEST(CostModel, PricesEveryPolicyAsItsRowSays) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  const StepLoad load{.decode_rows = 8, .global_tokens = 64};
  Calibration calibration;
  calibration.router_us = {{"hash", 9}, {"static", 4}};
  for (const PolicyInfo& policy : policies()) {
    SCOPED_TRACE(policy.name);
    Deployment deployment = on(8, model);
    deployment.slots_per_gpu = 24;
    deployment.dispatch = Dispatch::kAllToAll;
    deployment.policy = policy.name;
    const StepTimes step = CostModel(model, h200(), deployment).step(load);
    EXPECT_NEAR(step[Stage::kRoute], 48 * policy.route_us, 1e-9);
    EXPECT_EQ(step[Stage::kExchange] > 0, policy.needs != PolicyNeeds::kOwnRows);
    // Measured under its own name, else as the policy that it is timed as, else the table's.
    const double us = policy.name == "static"            ? 4
                      : policy.calibration_key == "hash" ? 9
                                                         : policy.route_us;
    const StepTimes measured = CostModel(model, h200(), deployment, &calibration).step(load);
    EXPECT_NEAR(measured[Stage::kRoute], 48 * us, 1e-9);
  }
}

TEST(CostModel, TakesWhatACalibrationMeasured) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  Calibration calibration;
  calibration.experts.push_back(
      {2048, 768, DataType::kBf16, 7, {{1, 10.0}, {11, 20.0}, {12, 30.0}}});
  calibration.router_us = {{"optimal", 1.5}};
  Deployment deployment = on(8, model);
  deployment.slots_per_gpu = 24;
  const CostModel cost(model, h200(), deployment, &calibration);
  EXPECT_DOUBLE_EQ(cost.expert_base_us(), 7);
  EXPECT_DOUBLE_EQ(cost.phi_us(1), 10);
  EXPECT_DOUBLE_EQ(cost.phi_us(6), 15);
  EXPECT_DOUBLE_EQ(cost.phi_us(13), 40) << "on beyond the last two";
  EXPECT_NEAR(cost.phi_us(100000), 30 + 10 * (100000.0 - 12), 1e-3);
  StepLoad load;
  load.decode_rows = 8;
  load.global_tokens = 64;
  EXPECT_NEAR(cost.step(load)[Stage::kRoute], 48 * 1.5, 1e-9);
  calibration.experts[0].phi_us = {{5, 1.0}, {5, 2.0}};
  EXPECT_THROW(CostModel(model, h200(), deployment, &calibration), Error);
}

TEST(CostModel, ExpertTimesAreKnownByAllThatTheyDependOn) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  Calibration calibration;
  calibration.experts.push_back(
      {2048, 768, DataType::kBf16, 7, {{1, 10.0}, {17, 20.0}, {40, 30.0}, {64, 40.0}}});
  Deployment deployment = on(8, model);
  const auto identity = [&] {
    return CostModel(model, h200(), deployment, &calibration).expert_time_identity();
  };
  const std::string first = identity();
  deployment.tp = 2;
  deployment.kv = DataType::kFp8;
  deployment.policy = "home";
  calibration.copy_gb_s = 1000;
  EXPECT_EQ(identity(), first) << "none of it is about experts";
  calibration.experts[0].phi_us[2].second += 1e-6;
  EXPECT_NE(identity(), first) << "at 40 tokens alone";
  calibration.experts[0].phi_us[2].second = 30;
  EXPECT_EQ(identity(), first);
  deployment.expert_weights = DataType::kFp8;
  EXPECT_NE(identity(), first);
}

TEST(CostModel, RefusesLayoutsThatCannotBe) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  const auto fault = [&](auto change) {
    Deployment deployment = on(8, model);
    change(deployment);
    try {
      deployment.validate(model);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUsage);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(fault([](Deployment& d) { d.gpus = 0; }), "gpus is 0, must be 1..65536");
  EXPECT_EQ(fault([](Deployment& d) { d.tp = 3; }), "tp is 3, must be a divisor of gpus (8)");
  EXPECT_EQ(fault([](Deployment& d) { d.ep = 5; }), "ep is 5, must be a divisor of gpus (8)");
  EXPECT_EQ(fault([](Deployment& d) { d.slots_per_gpu = 15; }),
            "slots_per_gpu is 15, must be 0, or enough that 8 GPUs hold 128 experts");
  EXPECT_TRUE(fault([](Deployment& d) {
                d.policy = "best";
              }).starts_with("unknown policy 'best', known: even,"));
}

TEST(Network, CrossingDomainsCostsAHopAndTheNetwork) {
  const cost::Network network(h200(), 8, 1, nullptr);
  const auto inside = network.line(Collective::kAllGather, 8);
  const auto across = network.line(Collective::kAllGather, 16);
  EXPECT_GT(across.alpha_us, inside.alpha_us);
  EXPECT_LT(across.beta_gb_s, inside.beta_gb_s);
  EXPECT_EQ(network.line(Collective::kAllReduce, 1).alpha_us, 0);
  // GB200's domain holds 72.
  const cost::Network wide(*find_gpu("gb200"), 0, 1, nullptr);
  EXPECT_EQ(wide.line(Collective::kAllToAll, 64).alpha_us,
            wide.line(Collective::kAllToAll, 8).alpha_us);
}

TEST(Network, ScalesByTheLinksThatWereMeasured) {
  // No A100 ran the low-latency kernels: Hopper's line, at the A100's narrower links.
  const auto a100 = cost::Network(*find_gpu("a100"), 0, 1, nullptr).line(Collective::kDispatch, 8);
  const auto h100 = cost::Network(*find_gpu("h100"), 0, 1, nullptr).line(Collective::kDispatch, 8);
  EXPECT_EQ(a100.alpha_us, h100.alpha_us);
  EXPECT_NEAR(a100.beta_gb_s, h100.beta_gb_s * 300 / 450, 1e-9);
}

TEST(ExpectedExperts, UniformRoutingIsTheBinomial) {
  const ModelConfig& model = *find_model("Qwen3-30B-A3B");
  const cost::ExpectedExperts experts(model, on(8, model), 0);
  for (const double tokens : {1.0, 8.0, 100.0}) {
    EXPECT_NEAR(experts.activated(tokens), 128 * (1 - std::pow(1 - 8.0 / 128, tokens)), 1e-6);
  }
}

TEST(ExpectedExperts, AllExpertsOnOneGpuIsTheSum) {
  const ModelConfig& model = *find_model("gpt-oss-20b");
  const CostModel cost(model, h200(), on(1, model));
  const cost::ExpectedExperts experts(model, on(1, model), 0);
  const double active = 1 - std::pow(1 - 4.0 / 32, 64);
  EXPECT_NEAR(experts.layer_us(cost, 64),
              cost.expert_base_us() + 32 * active * cost.expected_phi_us(8 / active), 1e-6);
}

TEST(ServingEstimate, OneRequestAloneWaitsForNobody) {
  const ModelConfig& model = *find_model("gpt-oss-120b");
  const Deployment deployment = on(1, model, DataType::kFp4);
  const CostModel cost(model, *find_gpu("b200"), deployment);
  const cost::ExpectedExperts experts(model, deployment, 0.9);
  const auto estimate = cost::estimate_serving(cost, experts, model, deployment, {1000, 500, 1});
  EXPECT_DOUBLE_EQ(estimate.tpot_ms, estimate.decode_step_ms);
  const auto busy = cost::estimate_serving(cost, experts, model, deployment, {1000, 500, 64});
  EXPECT_GT(busy.tpot_ms, busy.decode_step_ms);
}

}  // namespace
}  // namespace metro
