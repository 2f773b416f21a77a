// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/bench_prediction.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <span>

#include "cost/layer_builder.hpp"
#include "layer_bench/bench_grid.hpp"
#include "metro/cost.hpp"
#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace metro::layer_bench {
namespace {

using Counts = std::vector<std::vector<std::int32_t>>;  // [ranks][tokens of each replica]

/// The options that timed a row, as far as its batches and its placement hang on them.
LayerBenchOptions options_of(const LayerTimings& timings, const LayerTiming& row) {
  LayerBenchOptions options{.models = {}, .dtypes = {}, .kernels = {}, .progress = {}};
  options.algorithm = timings.algorithm;
  options.seed = timings.seed;
  options.batches = timings.batches;
  options.gpus = {row.gpus};
  options.replication = {row.replication};
  options.policies = {row.policy};
  return options;
}

/// The case of a row among those of its point; nullptr where its policy is none that is known.
const BenchCase* find_case(const std::vector<BenchCase>& cases, const std::string& label) {
  const auto found = std::ranges::find(cases, label, &BenchCase::label);
  return found == cases.end() ? nullptr : &*found;
}

/// Tokens of every replica by rank; of every expert, on one rank, where experts are sharded.
Counts count_tokens(const BenchCase& of, int num_experts, int gpus,
                    std::span<const std::int32_t> replica_ids) {
  if (of.sharding == ep::ExpertSharding::kTensorSharded) {
    Counts counts(1, std::vector<std::int32_t>(static_cast<std::size_t>(num_experts)));
    for (const std::int32_t id : replica_ids) {
      if (id >= 0) ++counts[0][static_cast<std::size_t>(id)];
    }
    return counts;
  }
  std::vector<std::int32_t> tokens(of.placement.replica_to_gpu.size());
  for (const std::int32_t id : replica_ids) {
    if (id >= 0) ++tokens[static_cast<std::size_t>(id)];
  }
  Counts counts(static_cast<std::size_t>(gpus));
  for (std::size_t slot = 0; slot < tokens.size(); ++slot) {
    counts[static_cast<std::size_t>(of.placement.replica_to_gpu[slot])].push_back(tokens[slot]);
  }
  return counts;
}

/// What the cost model says of one layer's stages besides the routed experts, on a rank.
class OtherStages {
 public:
  OtherStages(const ModelConfig& model, const GpuSpec& gpu, const LayerTiming& row,
              const Calibration* calibration)
      : row_(row),
        calibration_(calibration),
        cost_(one_layer(model), gpu, deployment_of(row), calibration) {}

  [[nodiscard]] double us(const BenchCase& of) const {
    const std::int64_t total = std::int64_t{row_.gpus} * row_.tokens_per_gpu;
    const bool gathers = dispatch_of(row_.dispatch) == Dispatch::kAllGather;
    const StepTimes gate = cost_.step({.decode_rows = gathers ? total : row_.tokens_per_gpu});
    const StepTimes rank = cost_.step({.decode_rows = row_.tokens_per_gpu, .global_tokens = total});
    // Nothing runs beside the benchmark's shared expert, whatever an engine hides of it.
    double sum = gate[Stage::kGate] + rank[Stage::kPermute] +
                 rank[Stage::kShared] / cost_.engine().shared_exposed;
    // Ids are mapped to slots in every row, replicas or not.
    if (of.sharding == ep::ExpertSharding::kExpertParallel) {
      sum += std::max(0.0, cost::router_us(require_policy(of.policy), calibration_));
    }
    if (!row_.emulated) {
      sum += rank[Stage::kDispatch] + rank[Stage::kExchange] + rank[Stage::kCombine];
    }
    return sum;
  }

  [[nodiscard]] const CostModel& cost() const { return cost_; }

 private:
  static ModelConfig one_layer(ModelConfig model) {
    model.num_layers = 1;
    model.num_dense_layers = 0;
    model.moe_layer_step = 1;
    return model;
  }

  static Deployment deployment_of(const LayerTiming& row) {
    Deployment deployment;
    deployment.gpus = row.gpus;
    deployment.gpus_per_domain = row.gpus;
    deployment.tensor_sharded_experts = row.policy == kMoeTp;
    deployment.dispatch = dispatch_of(row.dispatch);
    deployment.expert_weights = row.dtype;
    deployment.dense_weights = DataType::kBf16;
    return deployment;
  }

  const LayerTiming& row_;
  const Calibration* calibration_;
  CostModel cost_;
};

/// Predicts the rows of one run; keeps each model's routing, which all its rows replay.
class Predictor {
 public:
  Predictor(const LayerTimings& timings, const GpuSpec& gpu, const Calibration* calibration)
      : timings_(timings), gpu_(gpu), calibration_(calibration) {
    int max_gpus = 0;
    int max_tokens = 0;
    for (const LayerTiming& row : timings.rows) {
      max_gpus = std::max(max_gpus, row.gpus);
      max_tokens = std::max(max_tokens, row.tokens_per_gpu);
    }
    max_batch_ = max_gpus * max_tokens;
  }

  /// Why the row cannot be predicted, or nothing.
  std::string predict(const LayerTiming& row, PredictedLayer& predicted) {
    const ModelConfig* config = find_model(row.model);
    if (config == nullptr) return fmt::format("model '{}' is not a known one", row.model);
    const LayerBenchOptions options = options_of(timings_, row);
    const BenchModel model{*config, ep::layer_shape(*config), routing(*config, options)};
    if (row.policy != kEplbOff && row.policy != kMoeTp && find_policy(row.policy) == nullptr) {
      return fmt::format("policy '{}' is not a known one", row.policy);
    }
    const std::vector<BenchCase> cases = bench_cases(model, row.gpus, options);
    const BenchCase& of = *find_case(cases, row.policy);
    const std::vector<TopkBatch> batches = model.routing.batches(row.gpus * row.tokens_per_gpu);
    const OtherStages others(*config, gpu_, row, calibration_);

    std::vector<double> activated(static_cast<std::size_t>(row.gpus));
    for (const TopkBatch& batch : batches) {
      const Counts counts = counts_of(of, batch, row);
      double slowest = 0;
      for (std::size_t rank = 0; rank < activated.size(); ++rank) {
        const auto& tokens = counts[std::min(rank, counts.size() - 1)];
        const double us = counts.size() == 1 && of.sharding == ep::ExpertSharding::kTensorSharded
                              ? others.cost().tensor_sharded_us(tokens)
                              : others.cost().expert_us(tokens);
        slowest = std::max(slowest, us);
        activated[rank] += static_cast<double>(std::ranges::count_if(
                               tokens, [](std::int32_t n) { return n > 0; })) /
                           static_cast<double>(batches.size());
      }
      predicted.experts_us += slowest / static_cast<double>(batches.size());
    }
    predicted.layer_us = predicted.experts_us + others.us(of);
    return std::ranges::equal(activated, row.activated_per_rank,
                              [](double a, double b) { return std::abs(a - b) < 1e-6; })
               ? ""
               : "its batches are not those that this program draws from its seed";
  }

 private:
  const BenchRouting& routing(const ModelConfig& model, const LayerBenchOptions& options) {
    std::unique_ptr<BenchRouting>& known = routings_[model.name];
    if (!known) known = std::make_unique<BenchRouting>(model, options, max_batch_);
    return *known;
  }

  Counts counts_of(const BenchCase& of, const TopkBatch& batch, const LayerTiming& row) const {
    const int num_experts = find_model(row.model)->num_experts;
    if (of.sharding == ep::ExpertSharding::kTensorSharded) {
      return count_tokens(of, num_experts, row.gpus, batch.ids);
    }
    std::vector<std::int32_t> replica_ids(batch.ids.size());
    Router router(of.placement, of.policy, RouteOptions{timings_.seed});
    router.route(batch.view(), replica_ids);
    return count_tokens(of, num_experts, row.gpus, replica_ids);
  }

  const LayerTimings& timings_;
  const GpuSpec& gpu_;
  const Calibration* calibration_;
  int max_batch_ = 0;
  std::map<std::string, std::unique_ptr<BenchRouting>> routings_;
};

}  // namespace

const GpuSpec* gpu_of_device(std::string_view device) {
  for (std::size_t begin = 0; begin < device.size();) {
    const std::size_t end = std::min(device.find_first_of(" -", begin), device.size());
    const GpuSpec* gpu = find_gpu(device.substr(begin, end - begin));
    if (gpu != nullptr) return gpu;
    begin = end + 1;
  }
  return nullptr;
}

LayerPrediction predict_layers(const LayerTimings& timings, std::string_view file,
                               const GpuSpec& gpu, const Calibration* calibration) {
  for (const std::string& input : timings.inputs) {
    if (!input.ends_with(".npy")) continue;
    throw Error(ErrorCode::kInput,
                fmt::format("{}: inputs names the trace '{}', must be a run without --trace: only "
                            "generated batches can be drawn again",
                            file, input));
  }
  if (find_placement_algorithm(timings.algorithm) == nullptr) {
    throw Error(ErrorCode::kInput, fmt::format("{}: algorithm is '{}', must be a known placement",
                                               file, timings.algorithm));
  }
  Predictor predictor(timings, gpu, calibration);
  LayerPrediction result;
  for (std::size_t i = 0; i < timings.rows.size(); ++i) {
    PredictedLayer predicted{.row = &timings.rows[i]};
    if (std::string why = predictor.predict(timings.rows[i], predicted); !why.empty()) {
      result.skipped.push_back({i, std::move(why)});
    } else {
      result.rows.push_back(predicted);
    }
  }
  return result;
}

}  // namespace metro::layer_bench
