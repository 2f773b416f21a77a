// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/vocabulary.hpp"
#include "metro/ep/layer_config.hpp"
#include "metro/ep/stages.hpp"
#include "metro/model.hpp"
#include "metro/policy_names.hpp"
#include "metro/trace.hpp"

namespace metro::ep {
class Transport;
}  // namespace metro::ep

namespace metro::layer_bench {

/// A figure that was not measured; null in JSON.
inline constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

/// The policies of the table that a bench shows when it is not told which.
std::vector<std::string> headline_policies();

/// What `metro bench layer` times: every combination of the lists, and for each of them every
/// policy, EPLB off and moe-TP on the same batches.
struct LayerBenchOptions {
  std::vector<ModelConfig> models;
  std::vector<int> gpus{8};  ///< ranks; virtual ones where the transport has only one
  /// Groups of ranks that the replicas are spread over, each sharded over the ranks of its group;
  /// divides every number of ranks. 0: all ranks. CPU ranks only.
  int ep = 0;
  std::vector<int> tokens_per_gpu{1, 4, 8, 32, 64, 128};
  std::vector<double> replication{1.0, 1.125, 1.25, 1.5};
  std::string algorithm{kHomedAlgorithm};
  std::vector<std::string> policies = headline_policies();
  Dispatch dispatch = Dispatch::kAllGather;
  ep::Combine combine = ep::Combine::kReduceScatter;
  ep::ExpertSharding sharding =
      ep::ExpertSharding::kExpertParallel;  ///< kTensorSharded: moe-TP alone
  std::vector<DataType> dtypes;             ///< of the experts; empty: as the model has them
  std::vector<std::string> kernels;         ///< expert kernels; empty: the best one

  const RoutingTrace* trace = nullptr;  ///< null: batches drawn from the model's router profile
  int trace_layer = 0;
  std::uint64_t seed = 0;
  int batches = 4;  ///< different batches a row, its figures are their means
  int repeats = 5;  ///< timed runs of a batch, of which the median counts
  int threads = 0;  ///< CPU threads of a rank; 0: its share of the cores
  double timeout_s = 30;
  double weight_gb = 1;  ///< memory for weights; slots share buffers beyond it, in rotation

  /// Told now and then how many of all rows are done.
  std::function<void(std::size_t, std::size_t)> progress;
};

/// One policy at one point. Times are of the slowest rank, means over the batches.
struct LayerBenchRow {
  std::string model;
  int gpus = 0;
  int ep = 0;  ///< groups that the experts are spread over; moe-TP: 1
  int tokens_per_gpu = 0;
  double replication = 1;
  int replicas = 0;    ///< slots over all GPUs; 0 for moe-TP
  std::string policy;  ///< a policy, kEplbOff (the same algorithm at P = E) or kMoeTp
  std::string dispatch;
  std::string sharding;  ///< kWholeExperts or kMoeTp
  std::string dtype;
  std::string kernel;    ///< that ran the experts
  std::string evidence;  ///< "measured", or "emulated" where ranks took turns on one device

  double layer_us = kNotMeasured;  ///< without communication where ranks were emulated
  std::vector<std::pair<std::string, double>> stage_us;  ///< by ep::kLayerStages
  std::vector<double> experts_us_per_rank;
  std::vector<double> activated_per_rank;
  double max_activated = kNotMeasured;       ///< mean over batches of the busiest rank's
  std::vector<double> bytes_per_rank;        ///< weights that the expert stage reads
  double achieved_gb_s = kNotMeasured;       ///< bytes over time of the slowest rank's experts
  double share_of_copy = kNotMeasured;       ///< achieved_gb_s / copy_gb_s
  double exposed_routing_us = kNotMeasured;  ///< layer_us less that with replica ids given
};

struct LayerBenchResult {
  std::string device;               ///< "NVIDIA H100 80GB HBM3", "16 CPU threads", ...
  std::string transport;            ///< "local", "mpi", "nccl", or "virtual"
  double copy_gb_s = kNotMeasured;  ///< of a device copy in the same run, bytes read and written
  std::vector<LayerBenchRow> rows;
};

/// Times the layer on the CPU. Every rank calls it with its transport and gets the same result; a
/// transport of one rank emulates `options.gpus` ranks, each rank's experts in turn.
///
/// Cases take turns run by run, so that a drift of the machine hits all alike. Weights are random,
/// and those of more than `weight_gb` (over all ranks, moe-TP's the same again) share buffers.
/// Throws Error{kUsage} for names and sizes that do not fit, Error{kInfeasible} for a placement
/// that cannot be built, Error{kDevice} when a rank fails.
LayerBenchResult run_layer_bench_cpu(const LayerBenchOptions& options, ep::Transport& transport);

}  // namespace metro::layer_bench
