// SPDX-License-Identifier: Apache-2.0
// More work never takes less time, on any model, GPU and layout.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "cost/expected_experts.hpp"
#include "metro/cost.hpp"

namespace metro {
namespace {

struct Setup {
  const ModelConfig* model;
  const GpuSpec* gpu;
  Deployment deployment;
};

template <typename T>
T one_of(const std::vector<T>& values) {
  return *rc::gen::elementOf(values);
}

Setup any_setup() {
  Setup setup{find_model(one_of(model_names())), find_gpu(one_of(gpu_names())), {}};
  Deployment& d = setup.deployment;
  d.gpus = one_of<int>({1, 2, 4, 8, 16, 32});
  d.tp = one_of<int>({1, 2, 4, 8});
  if (d.tp > d.gpus || setup.model->num_heads % d.tp != 0) d.tp = 1;
  d.ep = d.gpus / one_of<int>({1, 1, 2});
  if (d.ep == 0 || d.gpus % d.ep != 0) d.ep = d.gpus;
  d.tensor_sharded_experts = *rc::gen::arbitrary<bool>();
  d.dispatch = one_of<Dispatch>({Dispatch::kAllGather, Dispatch::kAllToAll});
  d.set_weights(*setup.model, one_of<DataType>({DataType::kBf16, DataType::kFp8, DataType::kFp4}));
  d.kv = one_of<DataType>({DataType::kBf16, DataType::kFp8});
  d.engine = one_of<std::string>({"vllm", "sglang", "trtllm", "another"});
  d.slots_per_gpu = (setup.model->num_experts + d.ep - 1) / d.ep + *rc::gen::inRange(0, 4);
  return setup;
}

StepLoad any_load(int ranks) {
  StepLoad load;
  load.decode_rows = *rc::gen::inRange<std::int64_t>(0, 512);
  load.decode_context_tokens = load.decode_rows * *rc::gen::inRange<std::int64_t>(1, 20000);
  load.prefill_tokens = *rc::gen::inRange<std::int64_t>(0, 8192);
  load.prefill_pairs = load.prefill_tokens * *rc::gen::inRange<std::int64_t>(1, 20000);
  load.logits_rows = load.decode_rows;
  load.global_tokens = (load.decode_rows + load.prefill_tokens) * ranks;
  return load;
}

RC_GTEST_PROP(CostProperty, MoreOfAnythingTakesNoLess, ()) {
  const Setup setup = any_setup();
  const CostModel cost(*setup.model, *setup.gpu, setup.deployment);
  const StepLoad load = any_load(setup.deployment.attention_ranks());
  const double before = cost.step(load).total_us();
  RC_ASSERT(std::isfinite(before));
  RC_ASSERT(before > 0);
  const auto more = [&](auto change) {
    StepLoad larger = load;
    change(larger);
    return cost.step(larger).total_us();
  };
  const double slack = before * (1 - 1e-9);
  RC_ASSERT(more([](StepLoad& l) { l.decode_rows += 7; }) >= slack);
  RC_ASSERT(more([](StepLoad& l) { l.decode_context_tokens += 9999; }) >= slack);
  RC_ASSERT(more([](StepLoad& l) { l.prefill_tokens += 512; }) >= slack);
  RC_ASSERT(more([](StepLoad& l) { l.prefill_pairs += 1 << 20; }) >= slack);
  RC_ASSERT(more([](StepLoad& l) { l.logits_rows += 3; }) >= slack);
  RC_ASSERT(more([](StepLoad& l) { l.global_tokens += 100; }) >= slack);
}

RC_GTEST_PROP(CostProperty, StagesAreNoLessThanZero, ()) {
  const Setup setup = any_setup();
  const CostModel cost(*setup.model, *setup.gpu, setup.deployment);
  const StepTimes times = cost.step(any_load(setup.deployment.attention_ranks()));
  for (const double us : times.us) RC_ASSERT(us >= 0);
}

RC_GTEST_PROP(CostProperty, PhiGrowsAndSplittingAReplicaNeverHelpsOneGpu, ()) {
  const Setup setup = any_setup();
  const CostModel cost(*setup.model, *setup.gpu, setup.deployment);
  const auto a = *rc::gen::inRange<std::int64_t>(1, 6000);
  const auto b = *rc::gen::inRange<std::int64_t>(1, 6000);
  RC_ASSERT(cost.phi_us(a + b) >= cost.phi_us(std::max(a, b)) * (1 - 1e-9));
  // Two copies of an expert on one GPU read its weights twice.
  RC_ASSERT(cost.phi_us(a + b) <= (cost.phi_us(a) + cost.phi_us(b)) * (1 + 1e-9));
  RC_ASSERT(cost.expected_phi_us(static_cast<double>(a) + 0.5) >= cost.phi_us(a) * (1 - 1e-9));
}

RC_GTEST_PROP(CostProperty, MoreTokensActivateMoreExpertsUpToAll, ()) {
  const Setup setup = any_setup();
  const double sigma = *rc::gen::inRange(0, 20) / 10.0;
  const cost::ExpectedExperts experts(*setup.model, setup.deployment, sigma);
  const double tokens = *rc::gen::inRange(1, 4000);
  const double active = experts.activated(tokens);
  RC_ASSERT(active <= experts.activated(tokens + 1) * (1 + 1e-12));
  RC_ASSERT(active <= setup.model->num_experts * (1 + 1e-12));
  RC_ASSERT(experts.activated(1) <= setup.model->topk * (1 + 1e-6));
  const CostModel cost(*setup.model, *setup.gpu, setup.deployment);
  // One GPU has all experts: no luck in it. The slowest of several lies between a fair share and
  // all.
  const Deployment alone;
  const cost::ExpectedExperts together(*setup.model, alone, sigma);
  const double base = cost.expert_base_us();
  const double all = together.layer_us(cost, tokens) - base;
  const double slowest = experts.layer_us(cost, tokens) - base;
  RC_ASSERT(all + base <= together.layer_us(cost, tokens + 200) * (1 + 1e-9));
  const int gpus = setup.deployment.tensor_sharded_experts ? 1 : setup.deployment.expert_gpus();
  RC_ASSERT(slowest >= all / gpus * (1 - 1e-9));
  RC_ASSERT(slowest <= all * (1 + 1e-9));
}

RC_GTEST_PROP(CostProperty, MemoryAddsUp, ()) {
  const Setup setup = any_setup();
  const MemoryUse memory = CostModel(*setup.model, *setup.gpu, setup.deployment).memory();
  RC_ASSERT(memory.replica_bytes >= 0);
  RC_ASSERT(memory.weights_bytes > memory.replica_bytes);
  RC_ASSERT(memory.weights_bytes +
                    static_cast<double>(memory.kv_capacity_tokens) * memory.kv_bytes_per_token <=
                setup.gpu->memory_bytes ||
            memory.kv_capacity_tokens == 0);
}

}  // namespace
}  // namespace metro
