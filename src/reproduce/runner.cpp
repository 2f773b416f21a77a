// SPDX-License-Identifier: Apache-2.0
#include "reproduce/runner.hpp"

#include <fmt/format.h>

#include "core/parallel.hpp"
#include "metro/error.hpp"
#include "sim/routing_pool.hpp"

namespace metro::reproduction {
namespace {

bool fits(const RoutingTrace& trace, const ModelConfig& model) {
  try {
    sim::check_trace(trace, model);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Runner::Runner(const ReproduceSpec& spec) : spec_(spec) {
  for (const auto& trace : spec.traces) {
    bool fits_any = false;
    std::string known;
    for (const Pair& pair : pairs()) {
      const ModelConfig& model = *find_model(pair.model);
      fits_any = fits_any || fits(*trace, model);
      known +=
          fmt::format("{}{} ({} experts, top-{}, at most {} layers)", known.empty() ? "" : ", ",
                      model.name, model.num_experts, model.topk, model.num_moe_layers());
    }
    if (!fits_any) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{} experts, top-{}, {} layers: must be as in one of {}",
                              trace->num_experts(), trace->topk(), trace->num_layers(), known));
    }
  }
}

std::shared_ptr<const RoutingTrace> Runner::recorded(const Pair& pair) const {
  for (const auto& trace : spec_.traces) {
    if (fits(*trace, *find_model(pair.model))) return trace;
  }
  return nullptr;
}

SimulationConfig Runner::config(const Pair& pair, const System& system, double replication) const {
  SimulationConfig config;
  config.model = *find_model(pair.model);
  config.gpu = *find_gpu(pair.gpu);
  config.gpu.memory_bytes = pair.memory_bytes;
  config.deployment.gpus = pair.gpus;
  config.deployment.gpus_per_domain = pair.gpus;  // the paper's are all on NVLink
  config.deployment.set_weights(config.model, config.model.weights);
  config.deployment.tensor_sharded_experts = system.tensor_sharded;
  config.replication = system.replicates ? replication : 1;
  config.algorithm = system.algorithm;
  config.policy = system.policy;
  config.prefill_policy = system.prefill_policy;
  config.trace = recorded(pair);
  config.seed = spec_.seed;
  return config;
}

std::shared_ptr<const SimulationResult> Runner::serve(const Pair& pair, const System& system,
                                                      double replication, const Workload& workload,
                                                      int in_flight) {
  SimulationConfig config = this->config(pair, system, replication);
  const std::string key = fmt::format("{} {} {} {} {}", pair_name(pair), system.key,
                                      config.replication, workload.name, in_flight);
  return served_.get(key, [&] {
    Workload asked = workload;
    if (!quick()) asked.rounds *= 2;
    config.requests = make_requests(asked, in_flight, spec_.seed);
    config.concurrency = in_flight;
    return std::make_shared<const SimulationResult>(simulate(config, &cache_));
  });
}

double Runner::prefill_s(const Pair& pair, const System& system, double replication,
                         int prompts_per_gpu, int prompt_tokens) {
  SimulationConfig config = this->config(pair, system, replication);
  config.requests = equal_requests(std::int64_t{pair.gpus} * prompts_per_gpu, prompt_tokens, 1);
  config.chunk = prompts_per_gpu * prompt_tokens;
  return simulate(config, &cache_).simulated_s;
}

DecodeModel Runner::decode(const Pair& pair, const System& system, double replication) {
  return decode(config(pair, system, replication));
}

std::shared_ptr<const RoutingTrace> Runner::routing(const Pair& pair) const {
  if (auto trace = recorded(pair)) return trace;
  const ModelConfig& model = *find_model(pair.model);
  const sim::RoutingPool pool =
      sim::pool_of_profile(sim::nearest_profile(model), model, 0, spec_.seed);
  return {pool.decode, &pool.decode->trace()};
}

std::string Runner::routing_name(const Pair& pair) const {
  const auto trace = recorded(pair);
  if (trace != nullptr) return "trace of " + trace->info().model;
  return fmt::format("synthetic {}", sim::nearest_profile(*find_model(pair.model)).name);
}

void Runner::for_each(std::size_t count, const std::function<void(std::size_t)>& work) const {
  for_each_parallel(count, spec_.num_threads, work);
}

}  // namespace metro::reproduction
