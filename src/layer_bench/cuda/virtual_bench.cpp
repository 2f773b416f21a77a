// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/virtual_bench.hpp"

#include <algorithm>
#include <memory>
#include <optional>

#include "layer_bench/cuda/bench_timing.hpp"
#include "layer_bench/cuda/virtual_ranks.hpp"
#include "metro/error.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr std::size_t kStageBatches = 2;  // of which short stages are timed on their own

/// Times of [batches][ranks].
using TimeTable = std::vector<std::vector<double>>;

/// Which copy of the weights the next run takes.
class Rotation {
 public:
  explicit Rotation(std::size_t count) : count_(count) {}
  std::size_t next() { return at_ = (at_ + 1) % count_; }

 private:
  std::size_t count_;
  std::size_t at_ = 0;
};

/// One row: a policy on its ranks.
class CaseBench {
 public:
  CaseBench(VirtualTokens& tokens, VirtualRanks& ranks, const BenchCase& of, int repeats,
            const ep::cuda::Stream& stream)
      : tokens_(tokens), ranks_(ranks), repeats_(repeats), stream_(stream), clock_(stream) {
    if (!ranks.tensor_sharded()) {
      router_.emplace(Placement{of.placement.num_experts, of.placement.num_gpus, {of.placement}},
                      metro::cuda::RouterOptions{.policy = of.policy,
                                                 .max_tokens = tokens.rows(),
                                                 .topk = tokens.shape().topk,
                                                 .programmatic_launch = true});
    }
    for (std::size_t batch = 0; batch < tokens.num_batches(); ++batch) {
      enter(batch);
      const auto* ids = router_ ? tokens_.replica_ids() : tokens_.topk_ids();
      replica_ids_.push_back(tokens_.read(ids, stream_));
    }
    for (int rank = 0; rank < ranks.size(); ++rank) {
      for (std::size_t set = 0; set < ranks.num_sets(); ++set) {
        layers_.emplace_back(stream, [&] { ranks_.run_layer(router(), rank, set, stream); });
      }
    }
  }

  [[nodiscard]] const std::vector<std::vector<std::int32_t>>& replica_ids() const {
    return replica_ids_;
  }

  /// Layer and experts of every rank, for every batch.
  void time_ranks(TimeTable& layer_us, TimeTable& experts_us) {
    const auto num_ranks = static_cast<std::size_t>(ranks_.size());
    Rotation sets(ranks_.num_sets());
    for (int repeat = -1; repeat < repeats_; ++repeat) {
      for (std::size_t batch = 0; batch < tokens_.num_batches(); ++batch) {
        tokens_.use_batch(batch, stream_);
        for (int rank = 0; rank < ranks_.size(); ++rank) {
          const std::size_t cell = 2 * (batch * num_ranks + static_cast<std::size_t>(rank));
          timed(repeat >= 0, cell, layer(rank, sets.next()));
          ranks_.permute(rank).launch(stream_);  // each run of the experts uses up one
          timed(repeat >= 0, cell + 1, ranks_.experts(rank, sets.next()));
        }
      }
    }
    stream_.wait();
    const std::vector<double> times = clock_.read(2 * tokens_.num_batches() * num_ranks);
    for (std::size_t batch = 0; batch < tokens_.num_batches(); ++batch) {
      layer_us.emplace_back();
      experts_us.emplace_back();
      for (std::size_t rank = 0; rank < num_ranks; ++rank) {
        const std::size_t cell = 2 * (batch * num_ranks + rank);
        layer_us.back().push_back(times[cell]);
        experts_us.back().push_back(times[cell + 1]);
      }
    }
  }

  /// The layer less the layer with the same replica ids given, on the rank that sets the time.
  double exposed_routing_us(const TimeTable& layer_us) {
    if (!router_) return 0;
    Rotation sets(ranks_.num_sets());
    for (int repeat = -1; repeat < repeats_; ++repeat) {
      for (std::size_t batch = 0; batch < tokens_.num_batches(); ++batch) {
        const int rank = slowest(layer_us[batch]);
        tokens_.use_batch(batch, stream_);
        for (int turn = 0; turn < 2; ++turn) {  // more of them: the difference is small
          timed(repeat >= 0, 2 * batch, layer(rank, sets.next()));
          timed(repeat >= 0, 2 * batch + 1, ranks_.replayed_layer(rank, sets.next()));
        }
      }
    }
    stream_.wait();
    const std::vector<double> times = clock_.read(2 * tokens_.num_batches());
    std::vector<double> exposed;
    for (std::size_t batch = 0; batch < tokens_.num_batches(); ++batch) {
      exposed.push_back(times[2 * batch] - times[2 * batch + 1]);
    }
    return mean(exposed);
  }

  /// Stages that are too short to be timed one by one.
  void time_short_stages(const TimeTable& layer_us, std::vector<double>& stage_us) {
    const std::size_t batches = std::min(kStageBatches, tokens_.num_batches());
    const auto add = [&](Stage stage, const std::function<void()>& enqueue) {
      double& total = stage_us[static_cast<std::size_t>(stage)];
      if (total != total) total = 0;  // not measured so far
      total += time_in_a_row(stream_, repeats_, enqueue, [&] { stream_.wait(); }) /
               static_cast<double>(batches);
    };
    for (std::size_t batch = 0; batch < batches; ++batch) {
      const int rank = slowest(layer_us[batch]);
      enter(batch);
      ranks_.run_permute(rank, stream_);
      ranks_.run_experts(rank, 0, stream_);
      if (router_) add(Stage::kRoute, [&] { tokens_.run_route(*router_, stream_); });
      add(Stage::kPermute, [&] { ranks_.run_permute(rank, stream_); });
      add(Stage::kCombine, [&] { ranks_.run_combine(stream_); });
    }
  }

 private:
  static int slowest(const std::vector<double>& times) {
    return static_cast<int>(std::ranges::max_element(times) - times.begin());
  }
  metro::cuda::Router* router() { return router_ ? &*router_ : nullptr; }
  [[nodiscard]] const ep::cuda::Graph& layer(int rank, std::size_t set) const {
    return layers_[static_cast<std::size_t>(rank) * ranks_.num_sets() + set];
  }
  void timed(bool counts, std::size_t cell, const ep::cuda::Graph& graph) {
    if (!counts) return graph.launch(stream_);
    clock_.time(cell, [&] { graph.launch(stream_); });
  }
  void enter(std::size_t batch) {
    tokens_.use_batch(batch, stream_);
    tokens_.run_gate(stream_);
    if (router_) tokens_.run_route(*router_, stream_);
  }

  VirtualTokens& tokens_;
  VirtualRanks& ranks_;
  int repeats_;
  const ep::cuda::Stream& stream_;
  StreamClock clock_;
  std::optional<metro::cuda::Router> router_;  // none under moe-TP
  std::vector<std::vector<std::int32_t>> replica_ids_;
  std::vector<ep::cuda::Graph> layers_;  // [ranks][sets]
};

double mean_of_slowest(const TimeTable& times) {
  std::vector<double> most;
  for (const auto& of_batch : times) most.push_back(std::ranges::max(of_batch));
  return mean(most);
}

}  // namespace

std::vector<LayerBenchRow> bench_virtual_ranks(const BenchModel& model, int gpus,
                                               const WeightSets& weights,
                                               const LayerBenchOptions& options, double copy_gb_s,
                                               const std::function<void()>& done) {
  if (options.dispatch != Dispatch::kAllGather) {
    throw Error(
        ErrorCode::kUsage,
        "virtual ranks on a GPU take all-gather dispatch only, all-to-all needs real ranks");
  }
  const ep::cuda::Stream stream;
  const std::vector<BenchCase> cases = bench_cases(model, gpus, options);
  std::vector<LayerBenchRow> rows;
  for (const int tokens_per_gpu : options.tokens_per_gpu) {
    VirtualTokens tokens(model, gpus, tokens_per_gpu, options.seed, stream);
    const auto time = [&](const std::function<void()>& enqueue) {
      return time_in_a_row(stream, options.repeats, enqueue, [&] { stream.wait(); });
    };
    const double gate_us = time([&] { tokens.run_gate(stream); });
    const double shared_us =
        tokens.has_shared() ? time([&] { tokens.run_shared(stream); }) : kNotMeasured;
    std::unique_ptr<VirtualRanks> ranks;
    for (const BenchCase& of : cases) {
      if (!ranks || !ranks->serve(of)) {
        ranks.reset();  // before the next takes its memory
        ranks = std::make_unique<VirtualRanks>(tokens, weights, of, stream);
      }
      LayerBenchRow row = bench_row(model, of, gpus, tokens_per_gpu, options);
      row.kernel = "metro";
      row.evidence = "emulated";
      CaseBench bench(tokens, *ranks, of, options.repeats, stream);
      TimeTable layer_us;
      TimeTable experts_us;
      bench.time_ranks(layer_us, experts_us);
      row.layer_us = mean_of_slowest(layer_us);
      row.exposed_routing_us = bench.exposed_routing_us(layer_us);
      std::vector<double> stage_us(kNumStages, kNotMeasured);
      bench.time_short_stages(layer_us, stage_us);
      stage_us[static_cast<std::size_t>(Stage::kGate)] = gate_us;
      stage_us[static_cast<std::size_t>(Stage::kShared)] = shared_us;
      stage_us[static_cast<std::size_t>(Stage::kExperts)] = mean_of_slowest(experts_us);
      for (const Stage stage : ep::kLayerStages) {
        row.stage_us.emplace_back(stage_name(stage), stage_us[static_cast<std::size_t>(stage)]);
      }
      if (ranks->tensor_sharded()) {  // the one rank stands for all
        for (auto& of_batch : experts_us) {
          of_batch.resize(static_cast<std::size_t>(gpus), of_batch.front());
        }
      }
      add_experts(bench_work(model, of, gpus, bench.replica_ids()), experts_us, copy_gb_s, row);
      rows.push_back(std::move(row));
      done();
    }
  }
  return rows;
}

}  // namespace metro::layer_bench::cuda
