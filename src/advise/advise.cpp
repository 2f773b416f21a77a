// SPDX-License-Identifier: Apache-2.0
#include "metro/advise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "advise/choice.hpp"
#include "advise/reasons.hpp"
#include "core/parallel.hpp"
#include "metro/error.hpp"

namespace metro {
namespace {

/// EPLB off, moe-TP, what engines do today, and what this library adds.
std::vector<AdviceCandidate> candidates(const std::string& prefill_policy,
                                        const std::vector<double>& replication) {
  std::vector<AdviceCandidate> all = {AdviceCandidate{}, AdviceCandidate{.tensor_sharded = true}};
  for (const double ratio : replication) {
    for (const std::string_view policy : {kEvenPolicy, kHashPolicy}) {
      all.push_back(
          {ratio, false, std::string(kEplbAlgorithm), std::string(policy), std::string(policy)});
    }
    for (const std::string_view policy : {kHomePolicy, kPaperPolicy, kDefaultDecodePolicy}) {
      all.push_back(
          {ratio, false, std::string(kHomedAlgorithm), std::string(policy), prefill_policy});
    }
  }
  return all;
}

SimulationConfig config_of(const SimulationConfig& serving, const AdviceCandidate& candidate) {
  SimulationConfig config = serving;
  config.replication = candidate.replication;
  config.deployment.tensor_sharded_experts = candidate.tensor_sharded;
  config.algorithm = candidate.algorithm;
  config.policy = candidate.policy;
  config.prefill_policy = candidate.prefill_policy;
  config.timeline_steps = 0;
  return config;
}

/// Whole experts and shards of moe-TP are two shapes, of which a calibration may have one.
std::string mixed_kernels(const SimulationConfig& serving) {
  if (serving.calibration == nullptr) return "";
  const ModelConfig& model = serving.model;
  const auto width = [&](int shards) { return (model.expert_intermediate + shards - 1) / shards; };
  const auto is_measured = [&](int intermediate) {
    return std::ranges::any_of(serving.calibration->experts, [&](const auto& expert) {
      return expert.hidden == model.hidden && expert.intermediate == intermediate &&
             expert.weights == serving.deployment.expert_weights;
    });
  };
  const int whole = width(serving.deployment.gpus / serving.deployment.expert_gpus());
  const int shard = width(serving.deployment.gpus);
  if (is_measured(whole) == is_measured(shard)) return "";
  const int missing = is_measured(whole) ? shard : whole;
  return fmt::format(
      "the calibration has no {} experts of {} x {}, so moe-TP and whole experts are priced as "
      "different kernels",
      data_type_name(serving.deployment.expert_weights), model.hidden, missing);
}

void check(const AdviceOptions& options) {
  for (const double ratio : options.replication) {
    if (ratio > 1) continue;
    throw Error(ErrorCode::kUsage, fmt::format("replication is {:g}, must be above 1", ratio));
  }
  if (!(options.margin >= 0 && options.margin < 1)) {
    throw Error(ErrorCode::kUsage, fmt::format("margin is {:g}, must be 0..1", options.margin));
  }
}

}  // namespace

std::string AdviceCandidate::name() const {
  if (tensor_sharded) return "moe-TP";
  return is_off() ? "EPLB off" : algorithm + "+" + policy;
}

Advice advise(const SimulationConfig& serving, const AdviceOptions& options,
              const std::function<void(std::size_t, std::size_t)>& progress) {
  check(options);
  Advice advice;
  for (AdviceCandidate& candidate : candidates(serving.prefill_policy, options.replication)) {
    advice.rows.push_back({.candidate = std::move(candidate), .error = "", .result = {}});
    config_of(serving, advice.rows.back().candidate).validate();
  }
  SimulationCache cache;
  std::mutex mutex;
  std::size_t done = 0;
  for_each_parallel(advice.rows.size(), options.num_threads, [&](std::size_t i) {
    AdviceRow& row = advice.rows[i];
    try {
      row.result = simulate(config_of(serving, row.candidate), &cache);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInfeasible) throw;
      row.error = error.what();
    }
    const std::scoped_lock lock(mutex);
    if (progress) progress(++done, advice.rows.size());
  });
  const auto capacity = static_cast<double>(advice.rows[advice.off].result.kv_capacity_tokens);
  for (AdviceRow& row : advice.rows) {
    if (row.error.empty() && capacity > 0) {
      row.kv_share_lost = 1 - static_cast<double>(row.result.kv_capacity_tokens) / capacity;
    }
  }
  const bool has_slo = serving.slo_tpot_ms > 0 || serving.slo_ttft_ms > 0;
  choose(advice, has_slo, options.margin);
  const int gpus = serving.deployment.expert_gpus();
  advice.reasons =
      reasons(advice, {.experts_per_gpu = (serving.model.num_experts + gpus - 1) / gpus,
                       .has_slo = has_slo,
                       .margin = options.margin});
  advice.note = mixed_kernels(serving);
  return advice;
}

}  // namespace metro
