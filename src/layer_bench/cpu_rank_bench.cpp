// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <optional>

#include "layer_bench/bench_samples.hpp"
#include "layer_bench/cpu_bench.hpp"
#include "layer_bench/random_experts.hpp"
#include "metro/ep/moe_layer.hpp"

namespace metro::layer_bench {
namespace {

using Clock = std::chrono::steady_clock;

/// One rank's layers, of whole experts, of moe-TP and of groups, that all cases take turns on.
class RankBench {
 public:
  RankBench(const CpuBenchPoint& point, ep::Transport& transport)
      : point_(point), transport_(transport), dense_(point.model.shape, point.options.seed) {}

  void run(int tokens_per_gpu, const RowsDone& done) {
    tokens_ = tokens_per_gpu;
    const std::vector<BenchCase> cases = bench_cases(point_.model, point_.gpus, point_.options);
    const auto batches = point_.model.routing.batches(tokens_per_gpu * point_.gpus);
    std::vector<std::vector<std::vector<std::int32_t>>> replica_ids;  // [cases][batches]
    for (const BenchCase& of : cases) {
      replica_ids.push_back(route_batches(of, batches, point_.options.seed));
    }
    x_ = bench_tokens(tokens_per_gpu, point_.model.shape.hidden,
                      point_.options.seed + static_cast<std::uint64_t>(transport_.rank()));
    out_.resize(x_.size());
    const int repeats = point_.options.repeats;
    std::vector<BenchSamples> samples(
        cases.size(), BenchSamples(static_cast<int>(batches.size()), repeats, point_.gpus));
    for (std::size_t b = 0; b < batches.size(); ++b) {
      for (int repeat = -1; repeat < repeats; ++repeat) {  // the first warms up
        for (std::size_t c = 0; c < cases.size(); ++c) {
          const std::vector<BenchSample> all =
              gather(time_case(cases[c], batches[b], replica_ids[c][b]));
          for (int rank = 0; repeat >= 0 && rank < point_.gpus; ++rank) {
            samples[c].at(static_cast<int>(b), repeat, rank) = all[static_cast<std::size_t>(rank)];
          }
        }
      }
    }
    done(bench_rows(point_, tokens_per_gpu, cases, batches, samples, "measured"));
  }

 private:
  BenchSample time_case(const BenchCase& of, const TopkBatch& batch,
                        std::span<const std::int32_t> replica_ids) {
    ep::MoeLayer& layer = layer_for(of);
    ep::TokenBatch tokens{.x = x_,
                          .num_tokens = tokens_,
                          .expert_ids = seen(batch.ids, batch.topk),
                          .replica_ids = {}};
    BenchSample sample;
    sample.layer_us = time(layer, tokens, sample.stage_us);
    ep::StageTimes ignored{};
    tokens.replica_ids = seen(replica_ids, batch.topk);
    sample.replayed_us = time(layer, tokens, ignored);
    return sample;
  }

  double time(ep::MoeLayer& layer, const ep::TokenBatch& tokens, ep::StageTimes& stages) {
    transport_.barrier();
    const auto start = Clock::now();
    stages = layer.forward(tokens, out_).stage_us;
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
  }

  /// The ids of those rows that this rank's gate sees.
  [[nodiscard]] std::span<const std::int32_t> seen(std::span<const std::int32_t> ids,
                                                   int topk) const {
    if (point_.options.dispatch == Dispatch::kAllGather) return ids;
    const auto own = static_cast<std::size_t>(tokens_) * static_cast<std::size_t>(topk);
    return ids.subspan(static_cast<std::size_t>(transport_.rank()) * own, own);
  }

  ep::MoeLayer& layer_for(const BenchCase& of) {
    const bool is_sharded = of.sharding == ep::ExpertSharding::kTensorSharded;
    const bool is_grouped = of.shards > 1;
    std::optional<ep::MoeLayer>& layer = is_sharded ? sharded_ : is_grouped ? grouped_ : whole_;
    std::optional<WeightPool>& weights = is_sharded   ? sharded_weights_
                                         : is_grouped ? grouped_weights_
                                                      : whole_weights_;
    const ep::LayerShape& shape = point_.model.shape;
    if (!layer) {
      const int shards = is_sharded ? point_.gpus : of.shards;
      const ep::Shard shard = ep::shard_of(shape.intermediate, transport_.rank() % shards, shards);
      const int slots = is_sharded ? shape.num_experts : of.placement.num_replicas();
      weights.emplace(shape, shard, slots, 1e9 * point_.options.weight_gb / point_.gpus,
                      point_.options.seed, point_.threads);
      const ep::LayerOptions options{.policy = of.policy,
                                     .route = {.seed = point_.options.seed},
                                     .dispatch = point_.options.dispatch,
                                     .combine = point_.options.combine,
                                     .sharding = of.sharding,
                                     .shards = of.shards};
      layer.emplace(shape, of.placement, options,
                    ep::CpuOptions{std::string(point_.kernel), point_.threads}, dense_.view(),
                    *weights, transport_);
    } else if (!is_sharded) {
      layer->set_placement(of.placement);
      layer->set_policy(of.policy);
    }
    return *layer;
  }

  std::vector<BenchSample> gather(const BenchSample& own) {
    std::vector<BenchSample> all(static_cast<std::size_t>(point_.gpus));
    transport_.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)),
                          std::vector<std::size_t>(all.size(), sizeof(own)));
    return all;
  }

  const CpuBenchPoint& point_;
  ep::Transport& transport_;
  RandomDense dense_;
  std::optional<WeightPool> whole_weights_;
  std::optional<WeightPool> sharded_weights_;
  std::optional<WeightPool> grouped_weights_;
  std::optional<ep::MoeLayer> whole_;
  std::optional<ep::MoeLayer> sharded_;
  std::optional<ep::MoeLayer> grouped_;
  int tokens_ = 0;  // of this rank
  std::vector<float> x_;
  std::vector<float> out_;
};

}  // namespace

void bench_cpu_ranks(const CpuBenchPoint& point, ep::Transport& transport, const RowsDone& done) {
  RankBench bench(point, transport);
  for (const int tokens : point.options.tokens_per_gpu) bench.run(tokens, done);
}

}  // namespace metro::layer_bench
