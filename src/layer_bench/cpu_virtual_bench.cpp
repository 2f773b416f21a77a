// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <memory>

#include "ep/expert_stage.hpp"
#include "ep/gate.hpp"
#include "ep/stage_clock.hpp"
#include "layer_bench/bench_samples.hpp"
#include "layer_bench/cpu_bench.hpp"
#include "layer_bench/random_experts.hpp"
#include "metro/router.hpp"

namespace metro::layer_bench {
namespace {

double& stage(ep::StageTimes& times, Stage of) { return times[static_cast<std::size_t>(of)]; }

/// The ranks of one model, one after the other on the same threads.
class VirtualRanks {
 public:
  explicit VirtualRanks(const CpuBenchPoint& point)
      : point_(point),
        shape_(point.model.shape),
        dense_(shape_, point.options.seed),
        gate_(shape_, dense_.view().gate),
        experts_(shape_, point.kernel, point.threads),
        shared_matmul_(ep::make_matmul(point.kernel, shape_.weights)) {}

  void run(int tokens_per_gpu, const RowsDone& done) {
    const std::vector<BenchCase> cases = bench_cases(point_.model, point_.gpus, point_.options);
    const int total = tokens_per_gpu * point_.gpus;
    const std::vector<TopkBatch> batches = point_.model.routing.batches(total);
    x_ = bench_tokens(total, shape_.hidden, point_.options.seed);
    out_.resize(x_.size());
    shared_out_.resize(static_cast<std::size_t>(tokens_per_gpu) *
                       static_cast<std::size_t>(shape_.hidden));
    gated_ = point_.options.dispatch == Dispatch::kAllGather ? total : tokens_per_gpu;
    std::vector<std::unique_ptr<Router>> routers;
    for (const BenchCase& of : cases) {
      const bool is_routed = of.sharding == ep::ExpertSharding::kExpertParallel;
      routers.push_back(is_routed ? std::make_unique<Router>(of.placement, of.policy,
                                                             RouteOptions{point_.options.seed})
                                  : nullptr);
    }
    const int repeats = point_.options.repeats;
    std::vector<BenchSamples> samples(
        cases.size(), BenchSamples(static_cast<int>(batches.size()), repeats, point_.gpus));
    for (std::size_t b = 0; b < batches.size(); ++b) {
      for (int repeat = -1; repeat < repeats; ++repeat) {  // the first warms up
        const ep::StageTimes common = time_common(batches[b]);
        for (std::size_t c = 0; c < cases.size(); ++c) {
          BenchSamples scratch(1, 1, point_.gpus);
          const bool counts = repeat >= 0;
          run_case(cases[c], routers[c].get(), batches[b], common, counts ? samples[c] : scratch,
                   counts ? static_cast<int>(b) : 0, std::max(repeat, 0));
        }
      }
    }
    done(bench_rows(point_, tokens_per_gpu, cases, batches, samples, "emulated"));
  }

 private:
  /// What no policy changes: the gate on the tokens that a rank sees, its shared expert.
  ep::StageTimes time_common(const TopkBatch& batch) {
    const auto hidden = static_cast<std::size_t>(shape_.hidden);
    const auto ids = std::span(batch.ids).first(static_cast<std::size_t>(gated_) *
                                                static_cast<std::size_t>(batch.topk));
    clock_.start();
    weights_ =
        gate_.run(std::span(x_).first(static_cast<std::size_t>(gated_) * hidden), gated_, ids)
            .weights;
    clock_.lap(Stage::kGate);
    if (shape_.shared_intermediate > 0) {
      ep::run_mlp(*shared_matmul_, dense_.view().shared, x_.data(), shared_out_.size() / hidden,
                  shared_mlp_, shared_out_.data());
      clock_.lap(Stage::kShared);
    }
    weights_.resize(batch.ids.size(), 1.0F / static_cast<float>(batch.topk));
    return clock_.times();
  }

  void run_case(const BenchCase& of, Router* router, const TopkBatch& batch,
                const ep::StageTimes& common, BenchSamples& samples, int index, int repeat) {
    replica_ids_ = batch.ids;
    ep::StageTimes routed = common;
    if (router != nullptr) {
      clock_.start();
      router->route(batch.view(), replica_ids_);
      clock_.lap(Stage::kRoute);
      ep::StageTimes times = clock_.times();
      stage(routed, Stage::kRoute) = stage(times, Stage::kRoute);
    }
    for (int rank = 0; rank < point_.gpus; ++rank) {
      become(of, rank);
      clock_.start();
      experts_.permute(replica_ids_, batch.num_tokens);
      clock_.lap(Stage::kPermute);
      experts_.run(x_);
      clock_.lap(Stage::kExperts);
      experts_.combine(weights_, out_);
      clock_.lap(Stage::kCombine);
      BenchSample& sample = samples.at(index, repeat, rank);
      sample.stage_us = clock_.times();
      for (std::size_t i = 0; i < kNumStages; ++i) sample.stage_us[i] += routed[i];
      sample.layer_us = 0;
      for (const double time : sample.stage_us) sample.layer_us += time;
      // Nothing runs beside anything: the router is all that a given routing saves.
      sample.replayed_us = sample.layer_us - stage(sample.stage_us, Stage::kRoute);
    }
  }

  /// Takes on the slots of a rank.
  void become(const BenchCase& of, int rank) {
    const auto num_experts = static_cast<std::size_t>(shape_.num_experts);
    if (of.sharding == ep::ExpertSharding::kTensorSharded) {
      const ep::Shard shard = ep::shard_of(shape_.intermediate, 0, point_.gpus);
      WeightPool& weights = pool(sharded_, shard, shape_.num_experts * point_.gpus);
      weights.set_offset(rank * shape_.num_experts);
      experts_.set_slots(std::vector<std::int32_t>(num_experts), std::vector(num_experts, true),
                         shard.width(), weights);
      return;
    }
    std::vector<bool> is_local;
    for (const std::int32_t gpu : of.placement.replica_to_gpu) {
      is_local.push_back(gpu == rank / of.shards);
    }
    if (of.shards > 1) {
      const ep::Shard shard = ep::shard_of(shape_.intermediate, 0, of.shards);
      const int slots = of.placement.num_replicas();
      WeightPool& weights = pool(grouped_, shard, slots * of.shards);
      weights.set_offset(rank % of.shards * slots);  // not what another rank of the group just read
      experts_.set_slots(of.placement.replica_to_expert, is_local, shard.width(), weights);
      return;
    }
    experts_.set_slots(of.placement.replica_to_expert, is_local, shape_.intermediate,
                       pool(whole_, {0, shape_.intermediate}, of.placement.num_replicas()));
  }

  WeightPool& pool(std::unique_ptr<WeightPool>& pool, ep::Shard shard, int slots) {
    if (!pool) {
      pool = std::make_unique<WeightPool>(shape_, shard, slots, 1e9 * point_.options.weight_gb,
                                          point_.options.seed, point_.threads);
    }
    return *pool;
  }

  const CpuBenchPoint& point_;
  const ep::LayerShape& shape_;
  RandomDense dense_;
  ep::Gate gate_;
  ep::ExpertStage experts_;
  std::unique_ptr<ep::Matmul> shared_matmul_;
  ep::MlpWorkspace shared_mlp_;
  std::unique_ptr<WeightPool> whole_;
  std::unique_ptr<WeightPool> sharded_;
  std::unique_ptr<WeightPool> grouped_;
  ep::StageClock clock_;
  int gated_ = 0;  // tokens that a rank's gate sees
  std::vector<float> x_;
  std::vector<float> weights_;  // of the gate
  std::vector<float> out_;
  std::vector<float> shared_out_;
  std::vector<std::int32_t> replica_ids_;
};

}  // namespace

void bench_cpu_virtual_ranks(const CpuBenchPoint& point, const RowsDone& done) {
  VirtualRanks ranks(point);
  for (const int tokens : point.options.tokens_per_gpu) ranks.run(tokens, done);
}

}  // namespace metro::layer_bench
