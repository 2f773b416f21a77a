// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "layer_bench/bench_batches.hpp"
#include "layer_bench/layer_bench.hpp"
#include "metro/ep/layer_config.hpp"
#include "metro/placement.hpp"

namespace metro::layer_bench {

/// One model in one number format, with the routing that all its rows replay.
struct BenchModel {
  ModelConfig config;
  ep::LayerShape shape;
  BenchRouting routing;
};
std::vector<BenchModel> bench_models(const LayerBenchOptions& options);

/// What a row is to run.
struct BenchCase {
  std::string label;   ///< the row's policy
  std::string policy;  ///< of the router
  ep::ExpertSharding sharding = ep::ExpertSharding::kExpertParallel;
  double replication = 1;
  LayerPlacement placement;  ///< empty for moe-TP
  int shards = 1;            ///< ranks of a group that the placement is over
};

/// Rows for one number of GPUs: EPLB off and moe-TP, where there are groups these without replicas
/// ("s=2"), then every policy by replication. Cases of one placement follow each other. Throws
/// Error{kUsage} where the groups do not divide the GPUs, Error{kInfeasible} where the GPUs of a
/// group cannot share an expert's width, and for replicas in a single group.
std::vector<BenchCase> bench_cases(const BenchModel& model, int gpus,
                                   const LayerBenchOptions& options);

/// Rows of the whole run, for its progress.
std::size_t num_bench_rows(const LayerBenchOptions& options);

/// The row with everything that is known before anything is timed.
LayerBenchRow bench_row(const BenchModel& model, const BenchCase& of, int gpus, int tokens_per_gpu,
                        const LayerBenchOptions& options);

/// What the routed batches ask of each rank.
struct BenchWork {
  std::vector<std::vector<double>> activated;  ///< [batches][ranks], a shard in a group as its part
  double bytes_per_activated = 0;              ///< weights of a whole one; moe-TP: of a shard
};
/// `replica_ids` [batches][rows * topk]; expert ids for moe-TP.
BenchWork bench_work(const BenchModel& model, const BenchCase& of, int gpus,
                     const std::vector<std::vector<std::int32_t>>& replica_ids);

/// Fills in activated experts, bytes, and what the experts' times [batches][ranks] make of them.
void add_experts(const BenchWork& work, const std::vector<std::vector<double>>& experts_us,
                 double copy_gb_s, LayerBenchRow& row);

}  // namespace metro::layer_bench
