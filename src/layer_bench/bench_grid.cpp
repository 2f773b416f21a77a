// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/bench_grid.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "layer_bench/random_experts.hpp"
#include "metro/error.hpp"
#include "metro/metrics.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace metro::layer_bench {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

LayerPlacement placed(const BenchModel& model, int gpus, double replication,
                      const LayerBenchOptions& options) {
  const int replicas = replicas_for(model.shape.num_experts, replication, gpus);
  return place({1, model.shape.num_experts, model.routing.loads()},
               {.num_replicas = replicas, .num_gpus = gpus}, options.algorithm)
      .layers[0];
}

/// Ranks that share a replica.
int checked_shards(const BenchModel& model, int gpus, const LayerBenchOptions& options) {
  if (options.ep == 0) return 1;
  if (options.ep < 0 || gpus % options.ep != 0) {
    throw Error(ErrorCode::kUsage,
                fmt::format("ep is {}, must divide the {} GPUs", options.ep, gpus));
  }
  const int shards = gpus / options.ep;
  if (model.shape.intermediate % shards != 0) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{}: {} GPUs cannot share an expert of {} columns equally",
                            model.config.name, shards, model.shape.intermediate));
  }
  for (const double replication : options.replication) {
    if (options.ep > 1 || replication == 1) continue;
    throw Error(ErrorCode::kInfeasible,
                fmt::format("replication is {:g} on one group, must be 1: every GPU has a part of "
                            "every expert",
                            replication));
  }
  return shards;
}

/// The first of the largest.
std::size_t slowest(const std::vector<double>& times) {
  return static_cast<std::size_t>(std::ranges::max_element(times) - times.begin());
}

std::vector<double> means_by_rank(const std::vector<std::vector<double>>& values) {
  std::vector<double> means(values.front().size(), 0.0);
  for (const auto& of_batch : values) {
    for (std::size_t rank = 0; rank < means.size(); ++rank) {
      means[rank] += of_batch[rank] / static_cast<double>(values.size());
    }
  }
  return means;
}

}  // namespace

std::vector<std::string> headline_policies() {
  std::vector<std::string> names;
  for (const PolicyInfo& policy : policies()) {
    if (policy.headline) names.emplace_back(policy.name);
  }
  return names;
}

std::vector<BenchModel> bench_models(const LayerBenchOptions& options) {
  const int max_batch = std::ranges::max(options.gpus) * std::ranges::max(options.tokens_per_gpu);
  std::vector<BenchModel> models;
  for (const ModelConfig& config : options.models) {
    const BenchRouting routing(config, options, max_batch);
    const std::vector<DataType> as_is{config.weights};
    for (const DataType dtype : options.dtypes.empty() ? as_is : options.dtypes) {
      ep::LayerShape shape = ep::layer_shape(config);
      shape.weights = dtype;
      models.push_back({config, shape, routing});
    }
  }
  return models;
}

std::vector<BenchCase> bench_cases(const BenchModel& model, int gpus,
                                   const LayerBenchOptions& options) {
  const int shards = checked_shards(model, gpus, options);
  std::vector<BenchCase> cases;
  if (options.sharding == ep::ExpertSharding::kExpertParallel) {
    cases.push_back({.label = std::string(kEplbOff),
                     .policy = std::string(kHomePolicy),
                     .placement = placed(model, gpus, 1.0, options)});
  }
  cases.push_back({.label = std::string(kMoeTp),
                   .policy = std::string(kHomePolicy),
                   .sharding = ep::ExpertSharding::kTensorSharded,
                   .placement = {}});
  if (options.sharding == ep::ExpertSharding::kTensorSharded) return cases;
  if (shards > 1) {
    cases.push_back({.label = fmt::format("s={}", shards),
                     .policy = std::string(kHomePolicy),
                     .placement = placed(model, gpus / shards, 1.0, options),
                     .shards = shards});
  }
  for (const double replication : options.replication) {
    const LayerPlacement placement = placed(model, gpus / shards, replication, options);
    for (const std::string& policy : options.policies) {
      cases.push_back({.label = policy,
                       .policy = policy,
                       .replication = replication,
                       .placement = placement,
                       .shards = shards});
    }
  }
  return cases;
}

std::size_t num_bench_rows(const LayerBenchOptions& options) {
  const std::size_t dtypes = std::max<std::size_t>(options.dtypes.size(), 1);
  const std::size_t cases = options.sharding == ep::ExpertSharding::kTensorSharded
                                ? 1
                                : 2 + options.replication.size() * options.policies.size();
  const bool is_whole = options.sharding == ep::ExpertSharding::kTensorSharded || options.ep == 0;
  const auto grouped =
      is_whole ? 0
               : std::ranges::count_if(options.gpus, [&](int gpus) { return gpus != options.ep; });
  return options.models.size() * dtypes * options.tokens_per_gpu.size() *
         (options.gpus.size() * cases + static_cast<std::size_t>(grouped));
}

LayerBenchRow bench_row(const BenchModel& model, const BenchCase& of, int gpus, int tokens_per_gpu,
                        const LayerBenchOptions& options) {
  LayerBenchRow row;
  row.model = model.config.name;
  row.gpus = gpus;
  row.ep = of.sharding == ep::ExpertSharding::kTensorSharded ? 1 : gpus / of.shards;
  row.tokens_per_gpu = tokens_per_gpu;
  row.replication = of.replication;
  row.replicas = of.placement.num_replicas();
  row.policy = of.label;
  row.dispatch = ep::to_string(options.dispatch);
  row.sharding = ep::to_string(of.sharding);
  row.dtype = data_type_name(model.shape.weights);
  return row;
}

BenchWork bench_work(const BenchModel& model, const BenchCase& of, int gpus,
                     const std::vector<std::vector<std::int32_t>>& replica_ids) {
  BenchWork work;
  const bool sharded = of.sharding == ep::ExpertSharding::kTensorSharded;
  const int width = ep::shard_of(model.shape.intermediate, 0, sharded ? gpus : 1).width();
  work.bytes_per_activated =
      3.0 * model.shape.hidden * width * bytes_per_value(model.shape.weights);
  for (const std::vector<std::int32_t>& ids : replica_ids) {
    std::vector<double> activated(at(gpus));
    if (sharded) {
      std::vector<bool> seen(at(model.shape.num_experts));
      for (const std::int32_t id : ids) {
        if (id >= 0) seen[at(id)] = true;
      }
      std::ranges::fill(activated, static_cast<double>(std::ranges::count(seen, true)));
    } else {
      MetricsCounter counter(of.placement);
      const auto& of_groups = counter.count(ids).activated_per_gpu;
      for (std::size_t rank = 0; rank < activated.size(); ++rank) {
        activated[rank] = of_groups[rank / at(of.shards)] / static_cast<double>(of.shards);
      }
    }
    work.activated.push_back(std::move(activated));
  }
  return work;
}

void add_experts(const BenchWork& work, const std::vector<std::vector<double>>& experts_us,
                 double copy_gb_s, LayerBenchRow& row) {
  const auto batches = static_cast<double>(experts_us.size());
  double slowest_us = 0;
  double slowest_bytes = 0;
  double most_activated = 0;
  for (std::size_t b = 0; b < experts_us.size(); ++b) {
    const std::size_t rank = slowest(experts_us[b]);
    slowest_us += experts_us[b][rank];
    slowest_bytes += work.activated[b][rank] * work.bytes_per_activated;
    most_activated += std::ranges::max(work.activated[b]);
  }
  row.experts_us_per_rank = means_by_rank(experts_us);
  row.activated_per_rank = means_by_rank(work.activated);
  row.max_activated = most_activated / batches;
  for (const double activated : row.activated_per_rank) {
    row.bytes_per_rank.push_back(activated * work.bytes_per_activated);
  }
  row.achieved_gb_s = 1e-3 * slowest_bytes / slowest_us;
  row.share_of_copy = row.achieved_gb_s / copy_gb_s;
}

}  // namespace metro::layer_bench
