// SPDX-License-Identifier: Apache-2.0
#include "metro/advise.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "advise/choice.hpp"
#include "advise/launch.hpp"
#include "advise/reasons.hpp"
#include "core/parallel.hpp"
#include "metro/error.hpp"
#include "sim/pareto.hpp"

namespace metro {
namespace {

/// The sizes of groups that leave two groups or more, where the caller leaves the choice.
std::vector<int> shards_to_try(const SimulationConfig& serving, const AdviceOptions& options) {
  const Deployment& deployment = serving.deployment;
  std::vector<int> sizes;
  if (deployment.expert_gpus() != deployment.gpus || serving.prefill_gpus > 0) return sizes;
  for (const int shards : options.shards) {
    if (shards < deployment.gpus && deployment.gpus % shards == 0) sizes.push_back(shards);
  }
  return sizes;
}

/// EPLB off, moe-TP, what engines do today, and what this library adds.
std::vector<AdviceCandidate> candidates(const std::string& prefill_policy,
                                        const std::vector<double>& replication,
                                        const std::vector<int>& shards) {
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
  for (const int size : shards) {
    all.push_back({.shards = size});
    for (const double ratio : replication) {
      all.push_back({.replication = ratio,
                     .policy = std::string(kDefaultDecodePolicy),
                     .prefill_policy = prefill_policy,
                     .shards = size});
    }
  }
  return all;
}

SimulationConfig config_of(const SimulationConfig& serving, const AdviceCandidate& candidate) {
  SimulationConfig config = serving;
  config.replication = candidate.replication;
  config.deployment.tensor_sharded_experts = candidate.tensor_sharded;
  if (candidate.shards > 1) config.deployment.ep = serving.deployment.gpus / candidate.shards;
  config.algorithm = candidate.algorithm;
  config.policy = candidate.policy;
  config.prefill_policy = candidate.prefill_policy;
  config.timeline_steps = 0;
  return config;
}

/// Whole experts, shards of groups and shards of moe-TP are kernels of their own, of which a
/// calibration may have some.
std::string mixed_kernels(const SimulationConfig& serving, const std::vector<int>& shards) {
  if (serving.calibration == nullptr) return "";
  const ModelConfig& model = serving.model;
  const Deployment& deployment = serving.deployment;
  const auto width = [&](int size) { return (model.expert_intermediate + size - 1) / size; };
  const auto is_measured = [&](int intermediate) {
    return std::ranges::any_of(serving.calibration->experts, [&](const auto& expert) {
      return expert.hidden == model.hidden && expert.intermediate == intermediate &&
             expert.weights == deployment.expert_weights;
    });
  };
  std::vector<int> widths = {width(deployment.gpus / deployment.expert_gpus()),
                             width(deployment.gpus)};
  for (const int size : shards) widths.push_back(width(size));
  std::string missing;
  bool has_some = false;
  for (const int columns : widths) {
    if (is_measured(columns)) {
      has_some = true;
    } else {
      missing += fmt::format("{}{} x {}", missing.empty() ? "" : ", ", model.hidden, columns);
    }
  }
  if (missing.empty() || !has_some) return "";
  return fmt::format(
      "the calibration has no {} experts of {}, so whole experts and shards are priced as "
      "different kernels",
      data_type_name(deployment.expert_weights), missing);
}

/// What a planner may choose between: rows that serve the requests and are not beaten in both.
void mark_frontier(Advice& advice) {
  std::vector<ServingTradeOff> points;
  std::vector<AdviceRow*> of;
  for (AdviceRow& row : advice.rows) {
    if (!row.error.empty() || row.splits_scale_blocks || row.result.completed == 0) continue;
    points.push_back({row.result.tpot_ms.mean, row.result.output_tokens_per_s});
    of.push_back(&row);
  }
  const std::vector<bool> frontier = pareto_frontier(points);
  for (std::size_t i = 0; i < of.size(); ++i) of[i]->on_frontier = frontier[i];
}

void check(const AdviceOptions& options) {
  for (const double ratio : options.replication) {
    if (ratio > 1) continue;
    throw Error(ErrorCode::kUsage, fmt::format("replication is {:g}, must be above 1", ratio));
  }
  for (const int shards : options.shards) {
    if (shards > 1) continue;
    throw Error(ErrorCode::kUsage, fmt::format("shards is {}, must be above 1", shards));
  }
  if (!(options.margin >= 0 && options.margin < 1)) {
    throw Error(ErrorCode::kUsage, fmt::format("margin is {:g}, must be 0..1", options.margin));
  }
}

}  // namespace

std::string AdviceCandidate::name() const {
  if (tensor_sharded) return "moe-TP";
  if (is_off()) return "EPLB off";
  const std::string groups = shards > 1 ? fmt::format("s={}", shards) : "";
  if (replication == 1) return groups;
  return groups + (shards > 1 ? " " : "") + algorithm + "+" + policy;
}

Advice advise(const SimulationConfig& serving, const AdviceOptions& options,
              const std::function<void(std::size_t, std::size_t)>& progress) {
  check(options);
  Advice advice;
  const std::vector<int> shards = shards_to_try(serving, options);
  for (AdviceCandidate& candidate :
       candidates(serving.prefill_policy, options.replication, shards)) {
    AdviceRow& row = advice.rows.emplace_back();
    row.candidate = std::move(candidate);
    const SimulationConfig config = config_of(serving, row.candidate);
    row.splits_scale_blocks = config.deployment.splits_scale_blocks(config.model);
    try {
      config.validate();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInfeasible) throw;  // a width that the GPUs cannot share
    }
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
  mark_frontier(advice);
  const int gpus = serving.deployment.expert_gpus();
  advice.reasons =
      reasons(advice, {.experts_per_gpu = (serving.model.num_experts + gpus - 1) / gpus,
                       .has_slo = has_slo,
                       .margin = options.margin});
  advice.note = mixed_kernels(serving, shards);
  advice.launch = launch_of(serving, advice, options.margin);
  return advice;
}

}  // namespace metro
