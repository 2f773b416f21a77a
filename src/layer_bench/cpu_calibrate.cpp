// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <thread>
#include <utility>

#include "core/parallel.hpp"
#include "ep/expert_stage.hpp"
#include "ep/matmul.hpp"
#include "layer_bench/calibrate.hpp"
#include "layer_bench/copy_bandwidth.hpp"
#include "layer_bench/cpu_bench.hpp"
#include "layer_bench/random_experts.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "replay/route_timing.hpp"
#include "replay/synthetic_batches.hpp"

namespace metro::layer_bench {
namespace {

using Clock = std::chrono::steady_clock;

double us_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

ep::LayerShape layer_of(const ExpertShape& shape, int num_experts) {
  ep::LayerShape layer;
  layer.hidden = shape.hidden;
  layer.intermediate = shape.intermediate;
  layer.num_experts = num_experts;
  layer.topk = 1;
  layer.weights = shape.weights;
  return layer;
}

/// Experts of a bounded pool of memory, which take turns.
class CpuExpertTimer final : public ExpertTimer {
 public:
  CpuExpertTimer(const ExpertShape& shape, int most, int threads, const CalibrateOptions& options)
      : layer_(layer_of(shape, most)),
        most_(most),
        repeats_(options.quick ? 2 : 5),
        seed_(options.seed),
        stage_(layer_, "", threads),
        // A second buffer an expert, so that a batch never finds its own weights in the cache.
        pool_(layer_, {0, shape.intermediate}, 2 * most, 1e9 * options.weight_gb, options.seed,
              threads),
        slot_to_expert_(static_cast<std::size_t>(most)) {
    std::iota(slot_to_expert_.begin(), slot_to_expert_.end(), 0);
  }

  [[nodiscard]] int max_activated() const override { return most_; }

  double time_us(std::span<const std::int32_t> tokens_per_expert) override {
    std::vector<std::int32_t> ids;  // one token for each assignment
    for (std::size_t e = 0; e < tokens_per_expert.size(); ++e) {
      ids.insert(ids.end(), static_cast<std::size_t>(tokens_per_expert[e]),
                 static_cast<std::int32_t>(e));
    }
    const auto tokens = static_cast<int>(ids.size());
    const std::vector<float> x = bench_tokens(tokens, layer_.hidden, seed_);
    const std::vector<bool> is_local(slot_to_expert_.size(), true);
    std::vector<double> times;
    for (int repeat = -1; repeat < repeats_; ++repeat) {  // the first warms up
      pool_.set_offset(offset_);
      offset_ = (offset_ + static_cast<int>(tokens_per_expert.size())) % (2 * most_);
      stage_.set_slots(slot_to_expert_, is_local, layer_.intermediate, pool_);
      stage_.permute(ids, tokens);
      const auto begin = Clock::now();
      stage_.run(x);
      if (repeat >= 0) times.push_back(us_since(begin));
    }
    return median(std::move(times));
  }

 private:
  ep::LayerShape layer_;
  int most_;
  int repeats_;
  std::uint64_t seed_;
  ep::ExpertStage stage_;
  WeightPool pool_;
  std::vector<std::int32_t> slot_to_expert_;
  int offset_ = 0;
};

/// Rate of a large bf16 product, every thread with its own.
double measure_gemm_tflops(int threads, bool quick) {
  const int side = quick ? 256 : 1024;
  constexpr int kRows = 256;
  const RandomExpert weights(DataType::kBf16, side, side, {0, side}, 0, 0);
  const ep::WeightMatrix& down = weights.view().down;  // [side][side]
  struct Worker {
    std::unique_ptr<ep::Matmul> matmul;
    std::vector<float> x;
    std::vector<float> y;
  };
  std::vector<Worker> workers(static_cast<std::size_t>(threads));
  for (Worker& worker : workers) {
    worker = {ep::make_matmul("", DataType::kBf16), bench_tokens(kRows, side, 1),
              std::vector<float>(static_cast<std::size_t>(kRows) * static_cast<std::size_t>(side))};
  }
  std::vector<double> times;
  for (int i = 0; i < 5; ++i) {
    const auto begin = Clock::now();
    for_each_parallel(workers.size(), threads, [&](std::size_t w) {
      workers[w].matmul->run(workers[w].x.data(), kRows, down, workers[w].y.data());
    });
    times.push_back(us_since(begin));
  }
  const double us = median(std::move(times));
  return 2e-6 * threads * kRows * static_cast<double>(side) * side / us;
}

std::vector<std::pair<std::string, double>> time_policies(const CalibrateOptions& options) {
  const RouterBatches of;
  const std::vector<double> loads = lognormal_loads(of.num_experts, options.seed);
  const Placement placement =
      place({1, of.num_experts, loads}, {.num_replicas = of.num_replicas, .num_gpus = of.num_gpus},
            of.algorithm);
  std::vector<Contender> contenders;
  for (const PolicyInfo& policy : policies()) {
    contenders.push_back({std::string(policy.name),
                          policy.make(placement.layers.front(), {.seed = options.seed}), 0});
  }
  time_routers(contenders, draw_batches(loads, of.tokens, of.topk, of.batches, options.seed),
               options.quick ? 10 : 50, options.seed);
  std::vector<std::pair<std::string, double>> times;
  for (const Contender& contender : contenders) {
    times.emplace_back(contender.name, rounded_us(contender.median_ns / 1000));
  }
  return times;
}

}  // namespace

CalibrationRun calibrate_cpu(const CalibrateOptions& options) {
  const RunClock clock(options.budget_s);
  const int threads = options.threads > 0
                          ? options.threads
                          : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  CalibrationRun run;
  Calibration& calibration = run.calibration;
  calibration.device = fmt::format("CPU, {} thread{}", threads, threads == 1 ? "" : "s");
  calibration.copy_gb_s = rounded_us(measure_copy_gb_s(threads));
  calibration.gemm_tflops = rounded_us(measure_gemm_tflops(threads, options.quick));
  calibration.router_us = time_policies(options);
  run.left_out.emplace_back("collectives: a CPU has none");
  const MakeExpertTimer make = [&](const ExpertShape& shape, int most) {
    const double bytes = 3.0 * shape.hidden * shape.intermediate * bytes_per_value(shape.weights);
    const int room = static_cast<int>(std::min(1e9 * options.weight_gb / bytes, 1.0 * most));
    return std::make_unique<CpuExpertTimer>(shape, std::max(room, 1), threads, options);
  };
  time_experts(options, clock, make, run);
  return run;
}

}  // namespace metro::layer_bench
