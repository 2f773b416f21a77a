// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/rank_bench.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>
#include <span>

#include "cuda/device_memory.hpp"
#include "ep/cuda/layer_cuda.hpp"
#include "ep/cuda/stream.hpp"
#include "layer_bench/cuda/bench_timing.hpp"
#include "layer_bench/cuda/gather_values.hpp"
#include "layer_bench/cuda/random_experts.hpp"
#include "layer_bench/cuda/rank_weights.hpp"
#include "layer_bench/random_weights.hpp"

namespace metro::layer_bench::cuda {
namespace {

using Bf16 = __nv_bfloat16;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// This rank's inputs, and what every layer of the model has.
struct RankInputs {
  RankInputs(const ep::LayerShape& shape, int rank, int tokens, std::uint64_t seed) {
    const auto beyond = static_cast<std::uint32_t>(shape.num_experts);
    const auto key = [&](std::uint32_t expert, MatrixKind kind) {
      return weight_key(seed, expert, kind);
    };
    x = random_matrix(tokens, shape.hidden,
                      key(beyond + 1 + static_cast<std::uint32_t>(rank), MatrixKind::kRouter));
    out = metro::cuda::make_device_array<Bf16>(at(tokens) * at(shape.hidden));
    gate = random_matrix(shape.num_experts, shape.hidden, key(beyond, MatrixKind::kRouter));
    dense.gate = gate.get();
    if (const int width = shape.shared_intermediate; width > 0) {
      shared_gate_up = random_matrix(2 * width, shape.hidden, key(beyond, MatrixKind::kGateUp));
      shared_down = random_matrix(shape.hidden, width, key(beyond, MatrixKind::kDown));
      dense.shared_gate_up = shared_gate_up.get();
      dense.shared_down = shared_down.get();
    }
    count = metro::cuda::make_device_array<std::int32_t>(1);
    METRO_CUDA_CHECK(cudaMemcpy(count.get(), &tokens, sizeof tokens, cudaMemcpyHostToDevice));
  }
  ep::cuda::DenseWeights dense;
  metro::cuda::DeviceArray<Bf16> x;
  metro::cuda::DeviceArray<Bf16> out;
  metro::cuda::DeviceArray<Bf16> gate;
  metro::cuda::DeviceArray<Bf16> shared_gate_up;
  metro::cuda::DeviceArray<Bf16> shared_down;
  metro::cuda::DeviceArray<std::int32_t> count;
};

/// moe-TP needs every token on every GPU, whatever the other rows do.
Dispatch dispatch_for(const BenchCase& of, const LayerBenchOptions& options) {
  return of.sharding == ep::ExpertSharding::kTensorSharded ? Dispatch::kAllGather
                                                           : options.dispatch;
}

/// One row on this rank.
class CaseBench {
 public:
  CaseBench(const BenchModel& model, const BenchCase& of, RankWeights& weights,
            const RankInputs& inputs, ep::cuda::DeviceTransport& transport, int tokens,
            const LayerBenchOptions& options, const ep::cuda::Stream& stream)
      : of_(of),
        weights_(weights),
        transport_(transport),
        stream_(stream),
        repeats_(options.repeats),
        tensor_sharded_(of.sharding == ep::ExpertSharding::kTensorSharded),
        layer_(model.shape,
               {.policy = of.policy,
                .route = {},
                .dispatch = dispatch_for(of, options),
                .combine = options.combine,
                .sharding = of.sharding},
               {.max_tokens = tokens}, of.placement, transport),
        clock_(stream) {
    const std::size_t rows = at(layer_.routed_rows());
    num_ids_ = rows * at(model.shape.topk);
    const bool all_gather = dispatch_for(of, options) == Dispatch::kAllGather;
    const std::size_t first = all_gather ? 0 : at(transport.rank()) * num_ids_;
    for (const TopkBatch& batch : model.routing.batches(transport.size() * tokens)) {
      const auto own = std::span(batch.ids).subspan(first, num_ids_);
      batches_.emplace_back(own.begin(), own.end());
    }
    forced_ids_ = metro::cuda::make_device_array<std::int32_t>(num_ids_);
    layer_.set_dense(inputs.dense);
    step_ = {.x = inputs.x.get(),
             .num_tokens = inputs.count.get(),
             .out = inputs.out.get(),
             .forced_ids = forced_ids_.get()};
    use_batch(0);
    turn();
    layer_.forward(step_, stream_);  // libraries load and NCCL connects
    transport_.wait(stream_);
    graphs_.emplace_back(stream_, [&] { layer_.forward(step_, stream_); });
    graphs_.emplace_back(stream_, [&] { run_all_but_routing(); });
    graphs_.emplace_back(stream_, [&] { layer_.run(Stage::kPermute, step_, stream_); });
    graphs_.emplace_back(stream_, [&] { layer_.run(Stage::kExperts, step_, stream_); });
  }

  /// Layer, layer with the same replica ids, and experts, [3][batches] of this rank.
  std::vector<double> time_batches() {
    for (int repeat = -1; repeat < repeats_; ++repeat) {
      for (std::size_t batch = 0; batch < batches_.size(); ++batch) {
        use_batch(batch);
        turn();
        timed(repeat >= 0, 3 * batch, graphs_[0]);
        turn();
        timed(repeat >= 0, 3 * batch + 1, graphs_[1]);
        turn();
        graphs_[2].launch(stream_);  // each run of the experts uses up a permutation
        timed(repeat >= 0, 3 * batch + 2, graphs_[3]);
        transport_.wait(stream_);
      }
    }
    return clock_.read(3 * batches_.size());
  }

  /// By Stage, on the first batch; NaN for what is not timed here.
  std::vector<double> time_stages() {
    std::vector<double> times(kNumStages, kNotMeasured);
    use_batch(0);
    layer_.forward(step_, stream_);
    transport_.wait(stream_);
    for (const Stage stage : layer_.stages()) {
      const bool idle = stage == Stage::kExperts || (tensor_sharded_ && stage == Stage::kRoute);
      if (idle) continue;
      times[static_cast<std::size_t>(stage)] = time_in_a_row(
          stream_, repeats_, [&] { layer_.run(stage, step_, stream_); },
          [&] { transport_.wait(stream_); });
    }
    return times;
  }

  /// Of the whole batch, [batches][rows of all ranks * topk]; collective.
  std::vector<std::vector<std::int32_t>> replica_ids(bool all_gather) {
    std::vector<std::vector<std::int32_t>> all;
    for (std::size_t batch = 0; batch < batches_.size(); ++batch) {
      use_batch(batch);
      layer_.forward(step_, stream_);
      transport_.wait(stream_);
      std::vector<std::int32_t> own(num_ids_);
      METRO_CUDA_CHECK(cudaMemcpy(own.data(),
                                  tensor_sharded_ ? layer_.topk_ids() : layer_.replica_ids(),
                                  num_ids_ * sizeof(std::int32_t), cudaMemcpyDeviceToHost));
      all.emplace_back();
      if (all_gather) {
        all.back() = std::move(own);
        continue;
      }
      for (const auto& of_rank : gather(transport_, stream_, own)) {
        all.back().insert(all.back().end(), of_rank.begin(), of_rank.end());
      }
    }
    return all;
  }

 private:
  void use_batch(std::size_t batch) const {
    METRO_CUDA_CHECK(cudaMemcpyAsync(forced_ids_.get(), batches_[batch].data(),
                                     num_ids_ * sizeof(std::int32_t), cudaMemcpyHostToDevice,
                                     stream_));
  }
  void turn() { layer_.update(of_.placement, weights_.next(), stream_); }
  void run_all_but_routing() {
    for (const Stage stage : layer_.stages()) {
      if (stage != Stage::kRoute) layer_.run(stage, step_, stream_);
    }
  }
  void timed(bool counts, std::size_t cell, const ep::cuda::Graph& graph) {
    if (!counts) return graph.launch(stream_);
    clock_.time(cell, [&] { graph.launch(stream_); });
  }

  const BenchCase& of_;
  RankWeights& weights_;
  ep::cuda::DeviceTransport& transport_;
  const ep::cuda::Stream& stream_;
  int repeats_;
  bool tensor_sharded_;
  ep::cuda::CudaLayer layer_;
  StreamClock clock_;
  std::size_t num_ids_ = 0;
  std::vector<std::vector<std::int32_t>> batches_;  // what this rank's gate sees of each
  metro::cuda::DeviceArray<std::int32_t> forced_ids_;
  ep::cuda::LayerStep step_;
  std::vector<ep::cuda::Graph> graphs_;  // layer, layer without routing, permutation, experts
};

}  // namespace

std::vector<LayerBenchRow> bench_real_ranks(const BenchModel& model,
                                            ep::cuda::DeviceTransport& transport,
                                            const LayerBenchOptions& options, double copy_gb_s,
                                            const std::function<void()>& done) {
  const ep::cuda::Stream stream;
  const int gpus = transport.size();
  const std::vector<BenchCase> cases = bench_cases(model, gpus, options);
  std::unique_ptr<RankWeights> weights;
  std::vector<LayerBenchRow> rows;
  for (const int tokens : options.tokens_per_gpu) {
    const RankInputs inputs(model.shape, transport.rank(), tokens, options.seed);
    for (const BenchCase& of : cases) {
      if (!weights || !weights->serve(of)) {
        weights.reset();  // before the next take their memory
        weights =
            std::make_unique<RankWeights>(model.shape, of, transport.rank(), gpus, options.seed);
      }
      CaseBench bench(model, of, *weights, inputs, transport, tokens, options, stream);
      const auto times = gather(transport, stream, bench.time_batches());
      const auto stage_us = slowest(gather(transport, stream, bench.time_stages()));
      const Dispatch dispatch = dispatch_for(of, options);
      const auto ids = bench.replica_ids(dispatch == Dispatch::kAllGather);

      LayerBenchRow row = bench_row(model, of, gpus, tokens, options);
      row.dispatch = ep::to_string(dispatch);
      row.kernel = "metro";
      row.evidence = "measured";
      const std::vector<double> most = slowest(times);
      const std::size_t batches = most.size() / 3;
      std::vector<double> layer_us;
      std::vector<double> exposed_us;
      std::vector<double> slowest_experts_us;
      std::vector<std::vector<double>> experts_us(batches);
      for (std::size_t b = 0; b < batches; ++b) {
        layer_us.push_back(most[3 * b]);
        exposed_us.push_back(most[3 * b] - most[3 * b + 1]);
        slowest_experts_us.push_back(most[3 * b + 2]);
        for (const auto& of_rank : times) experts_us[b].push_back(of_rank[3 * b + 2]);
      }
      row.layer_us = mean(layer_us);
      row.exposed_routing_us = mean(exposed_us);
      for (const Stage stage : ep::kLayerStages) {
        row.stage_us.emplace_back(stage_name(stage),
                                  stage == Stage::kExperts
                                      ? mean(slowest_experts_us)
                                      : stage_us[static_cast<std::size_t>(stage)]);
      }
      add_experts(bench_work(model, of, gpus, ids), experts_us, copy_gb_s, row);
      rows.push_back(std::move(row));
      done();
    }
  }
  return rows;
}

}  // namespace metro::layer_bench::cuda
