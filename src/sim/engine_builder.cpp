// SPDX-License-Identifier: Apache-2.0
#include "sim/engine_builder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "sim/simulation_cache.hpp"

namespace metro::sim {
namespace {

/// The deployment of a part of the GPUs, with what follows from the replication.
Deployment deployment_of(const SimulationConfig& config, int gpus, const std::string& policy) {
  Deployment deployment = config.deployment;
  if (deployment.ep == deployment.gpus) deployment.ep = 0;
  deployment.gpus = gpus;
  deployment.policy = policy;
  deployment.slots_per_gpu = 0;
  if (!deployment.tensor_sharded_experts) {
    const int ep = deployment.expert_gpus();
    deployment.slots_per_gpu = replicas_for(config.model.num_experts, config.replication, ep) / ep;
  }
  return deployment;
}

/// What CostModel charges: kAutoPolicy pays for its first choice, and the rest is added by step.
std::string charged_policy(const std::string& policy) {
  return policy == kAutoPolicy ? std::string(kHomePolicy) : policy;
}

/// What kAutoPolicy chooses from: `home`, and what may gain on it.
std::vector<PolicyChoice> auto_choices(const SimulationConfig& config, int gpus) {
  std::vector<std::string_view> names{kHomePolicy, kOptimalPolicy};
  for (const PolicyInfo& policy : policies()) {
    if (policy.uses_cost) names.push_back(policy.name);
  }
  std::vector<PolicyChoice> choices;
  for (const std::string_view name : names) {
    const CostModel cost(config.model, config.gpu, deployment_of(config, gpus, std::string(name)),
                         config.calibration.get());
    const StepTimes times = cost.step({.decode_rows = 1, .global_tokens = 1, .decode_requests = 1});
    choices.push_back({std::string(name), times[Stage::kRoute] + times[Stage::kExchange]});
  }
  const double first = choices.front().router_us;
  for (PolicyChoice& choice : choices) choice.router_us -= first;
  return choices;
}

struct Keyed {
  std::string key;
  std::shared_ptr<const RoutingPool> pool;
};

Keyed shared_pool(const SimulationConfig& config, SimulationCache& cache) {
  const ModelConfig& model = config.model;
  if (config.trace != nullptr) {
    Keyed keyed{fmt::format("trace {}", static_cast<const void*>(config.trace.get())), nullptr};
    keyed.pool = cache.parts().pools.get(keyed.key, [&] {
      return std::make_shared<const RoutingPool>(pool_of_trace(config.trace, model));
    });
    check_trace(*config.trace, model);  // another model may have asked first
    return keyed;
  }
  const RouterProfile& profile =
      config.profile.empty() ? nearest_profile(model) : *find_router_profile(config.profile);
  Keyed keyed{fmt::format("{} {} {} {} {} {}", profile.name, model.num_experts, model.topk,
                          model.num_moe_layers(), config.draft_tokens, config.seed),
              nullptr};
  keyed.pool = cache.parts().pools.get(keyed.key, [&] {
    return std::make_shared<const RoutingPool>(
        pool_of_profile(profile, model, config.draft_tokens, config.seed));
  });
  return keyed;
}

/// Largest possible when nothing is asked for.
std::int64_t running_limit(const SimulationConfig& config, int num_ranks) {
  if (config.max_batch == 0) return std::numeric_limits<std::int32_t>::max();
  return (config.max_batch - 1) / num_ranks + 1;
}

[[noreturn]] void fail_memory(const SimulationConfig& config, const MemoryUse& memory, int gpus) {
  throw Error(ErrorCode::kInfeasible,
              fmt::format("{} on {} {} GPUs: {:.1f} GB of weights on each GPU ({:.1f} GB of them "
                          "replicas) leave no room for a context in its {:.0f} GB, must be more "
                          "GPUs, narrower weights or less replication",
                          config.model.name, gpus, config.gpu.name, memory.weights_bytes * 1e-9,
                          memory.replica_bytes * 1e-9, config.gpu.memory_bytes * 1e-9));
}

RankLimits rank_limits(const SimulationConfig& config, const MemoryUse& memory, int num_ranks,
                       EngineRole role) {
  RankLimits limits;
  limits.kv_capacity = memory.kv_capacity_tokens;
  if (memory.kv_bytes_per_token > 0) {
    limits.kv_per_request = static_cast<std::int64_t>(
        std::ceil(memory.kv_bytes_per_request / memory.kv_bytes_per_token));
  }
  limits.max_running = running_limit(config, num_ranks);
  limits.chunk = config.chunk;
  limits.prefill_only = role == EngineRole::kPrefill;
  limits.draft_tokens = limits.prefill_only ? 0 : config.draft_tokens;
  limits.draft_acceptance = config.draft_acceptance;
  return limits;
}

}  // namespace

EnginePart build_engine(const SimulationConfig& config, SimulationCache& cache, int gpus,
                        EngineRole role) {
  const Calibration* calibration = config.calibration.get();
  const Deployment deployment = deployment_of(config, gpus, charged_policy(config.policy));
  EnginePart part;
  EngineSetup& setup = part.setup;
  setup.decode_cost =
      std::make_shared<const CostModel>(config.model, config.gpu, deployment, calibration);
  setup.prefill_cost = std::make_shared<const CostModel>(
      config.model, config.gpu, deployment_of(config, gpus, charged_policy(config.prefill_policy)),
      calibration);
  part.memory = setup.decode_cost->memory();
  if (part.memory.kv_capacity_tokens < 1) fail_memory(config, part.memory, gpus);
  setup.num_ranks = deployment.attention_ranks();
  setup.num_moe_layers = config.model.num_moe_layers();
  setup.limits = rank_limits(config, part.memory, setup.num_ranks, role);
  setup.rearrange_every = deployment.tensor_sharded_experts ? 0 : config.rearrange_every;
  setup.slot_bytes = part.memory.slot_bytes / setup.num_moe_layers;
  setup.seed = config.seed + (role == EngineRole::kPrefill ? 1 : 0);

  const Keyed keyed = shared_pool(config, cache);
  std::string key = keyed.key;
  MoeSetup moe;
  moe.pool = keyed.pool;
  moe.cost = setup.decode_cost;
  moe.policy = config.policy;
  moe.prefill_policy = config.prefill_policy;
  if (!deployment.tensor_sharded_experts &&
      (moe.policy == kAutoPolicy || moe.prefill_policy == kAutoPolicy)) {
    moe.choices = auto_choices(config, gpus);
  }
  moe.num_gpus = deployment.tensor_sharded_experts ? gpus : deployment.expert_gpus();
  moe.shards = deployment.expert_shards();
  moe.num_layers = setup.num_moe_layers;
  moe.draft_tokens = setup.limits.draft_tokens;
  moe.seed = config.seed;
  PlacementRule rule;
  rule.algorithm = config.algorithm;
  if (!deployment.tensor_sharded_experts) {
    rule.request = {.num_replicas = deployment.slots_per_gpu * moe.num_gpus,
                    .num_gpus = moe.num_gpus};
    key += fmt::format(" | {} {} {}", rule.algorithm, rule.request.num_replicas, moe.num_gpus);
    moe.placement = cache.parts().placements.get(key, [&] {
      return std::make_shared<const Placement>(
          place(keyed.pool->loads, rule.request, rule.algorithm));
    });
  } else {
    key += fmt::format(" | sharded {}", gpus);
  }
  if (config.fidelity == Fidelity::kFull) {
    part.experts = make_full_times(moe, rule, setup.rearrange_every > 0);
    return part;
  }
  key += fmt::format(" | {} | {} {} {} {} {} | {}", moe.shards, moe.policy, moe.prefill_policy,
                     moe.num_layers, moe.draft_tokens, moe.seed, moe.cost->expert_time_identity());
  for (const PolicyChoice& choice : moe.choices) key += fmt::format(" {}", choice.router_us);
  std::shared_ptr<ExpertTable> table =
      cache.parts().tables.get(key, [&] { return std::make_shared<ExpertTable>(moe); });
  part.experts = make_table_times(std::move(table), moe, rule);
  return part;
}

double kv_transfer_s_per_token(const SimulationConfig& config, const MemoryUse& prefill,
                               const MemoryUse& decode) {
  const int domain = config.deployment.gpus_per_domain > 0 ? config.deployment.gpus_per_domain
                                                           : config.gpu.gpus_per_domain;
  const double bytes_per_s = config.deployment.gpus <= domain ? config.gpu.link_bytes_per_s
                                                              : config.gpu.internode_bytes_per_s;
  return std::max(prefill.kv_bytes_per_token, decode.kv_bytes_per_token) / bytes_per_s;
}

}  // namespace metro::sim
