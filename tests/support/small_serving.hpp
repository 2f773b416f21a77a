// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "metro/cost.hpp"
#include "metro/placer.hpp"
#include "metro/simulate.hpp"
#include "metro/trace_generator.hpp"

/// Small things to serve: simulations of them take milliseconds.
namespace metro::test {

inline ModelConfig small_model(int num_experts = 16, int topk = 4, int num_layers = 4) {
  ModelConfig model;
  model.name = "small";
  model.hidden = 1024;
  model.num_layers = num_layers;
  model.num_experts = num_experts;
  model.topk = topk;
  model.expert_intermediate = 512;
  model.num_heads = 16;
  model.num_kv_heads = 4;
  model.head_dim = 64;
  model.vocab_size = 32000;
  model.max_position = 4096;
  return model;
}

inline SimulationConfig small_serving(const ModelConfig& model, int gpus) {
  SimulationConfig config;
  config.model = model;
  config.gpu = *find_gpu("h100");
  config.deployment.gpus = gpus;
  RouterModel router = find_router_profile("qwen3-30b")->model;
  router.num_experts = model.num_experts;
  router.topk = model.topk;
  router.num_layers = model.num_layers;
  router.num_groups = 1;
  config.trace = std::make_shared<const RoutingTrace>(
      generate_trace(router, std::vector<std::int64_t>(64, 8), "decode", 7));
  return config;
}

/// The cost model that `simulate` uses for a configuration, under one of its policies.
inline CostModel cost_of(const SimulationConfig& config, const std::string& policy) {
  Deployment deployment = config.deployment;
  deployment.policy = policy;
  const int ep = deployment.expert_gpus();
  if (!deployment.tensor_sharded_experts) {
    deployment.slots_per_gpu = replicas_for(config.model.num_experts, config.replication, ep) / ep;
  }
  return {config.model, config.gpu, deployment};
}

/// Shrinks the GPU's memory until an attention rank holds about `tokens` of context.
inline void limit_context(SimulationConfig& config, std::int64_t tokens) {
  double low = 0;
  double high = config.gpu.memory_bytes;
  for (int i = 0; i < 60; ++i) {
    config.gpu.memory_bytes = (low + high) / 2;
    const std::int64_t found = cost_of(config, config.policy).memory().kv_capacity_tokens;
    (found < tokens ? low : high) = config.gpu.memory_bytes;
  }
  config.gpu.memory_bytes = high;
}

}  // namespace metro::test
