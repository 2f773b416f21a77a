// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cpu_bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <thread>

#include "core/rng.hpp"
#include "ep/matmul.hpp"
#include "layer_bench/bench_samples.hpp"
#include "layer_bench/copy_bandwidth.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"

namespace metro::layer_bench {
namespace {

int threads_of_a_rank(const LayerBenchOptions& options, int ranks_here) {
  if (options.threads > 0) return options.threads;
  const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return std::max(1, cores / ranks_here);
}

/// Mean over the ranks; they copy at the same time, as they read weights at the same time.
double shared_copy_gb_s(int threads, ep::Transport& transport) {
  transport.barrier();
  const double own = measure_copy_gb_s(threads);
  std::vector<double> all(static_cast<std::size_t>(transport.size()));
  transport.all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)),
                       std::vector<std::size_t>(all.size(), sizeof(double)));
  double sum = 0;
  for (const double gb_s : all) sum += gb_s;
  return sum / static_cast<double>(all.size());
}

std::vector<std::string> kernels_for(const LayerBenchOptions& options, DataType type) {
  return options.kernels.empty() ? std::vector{std::string(ep::best_matmul(type))}
                                 : options.kernels;
}

}  // namespace

std::vector<float> bench_tokens(int count, int hidden, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<std::size_t>(count) * static_cast<std::size_t>(hidden));
  for (float& value : x) value = static_cast<float>(2 * rng.uniform() - 1);
  return x;
}

std::vector<std::vector<std::int32_t>> route_batches(const BenchCase& of,
                                                     const std::vector<TopkBatch>& batches,
                                                     std::uint64_t seed) {
  std::vector<std::vector<std::int32_t>> replica_ids;
  for (const TopkBatch& batch : batches) replica_ids.push_back(batch.ids);
  if (of.sharding == ep::ExpertSharding::kTensorSharded) return replica_ids;
  Router router(of.placement, of.policy, {.seed = seed});
  for (std::size_t b = 0; b < batches.size(); ++b) {
    router.route(batches[b].view(), replica_ids[b]);
  }
  return replica_ids;
}

std::vector<LayerBenchRow> bench_rows(const CpuBenchPoint& point, int tokens_per_gpu,
                                      const std::vector<BenchCase>& cases,
                                      const std::vector<TopkBatch>& batches,
                                      const std::vector<BenchSamples>& samples,
                                      std::string_view evidence) {
  std::vector<LayerBenchRow> rows;
  for (std::size_t c = 0; c < cases.size(); ++c) {
    LayerBenchRow row = bench_row(point.model, cases[c], point.gpus, tokens_per_gpu, point.options);
    row.kernel = point.kernel;
    row.evidence = evidence;
    const auto replica_ids = route_batches(cases[c], batches, point.options.seed);
    const BenchWork work = bench_work(point.model, cases[c], point.gpus, replica_ids);
    samples[c].summarise(work, point.copy_gb_s, row);
    rows.push_back(std::move(row));
  }
  return rows;
}

LayerBenchResult run_layer_bench_cpu(const LayerBenchOptions& options, ep::Transport& transport) {
  const bool is_virtual = transport.size() == 1;
  if (!is_virtual && options.gpus != std::vector{transport.size()}) {
    throw Error(ErrorCode::kUsage, fmt::format("{} ranks were started, so gpus must be {}",
                                               transport.size(), transport.size()));
  }
  const int threads = threads_of_a_rank(options, transport.size());
  LayerBenchResult result;
  result.device = fmt::format("CPU, {} thread{} a rank", threads, threads == 1 ? "" : "s");
  result.transport = is_virtual ? "virtual" : transport.name();
  result.copy_gb_s = shared_copy_gb_s(threads, transport);
  const std::vector<BenchModel> models = bench_models(options);
  const std::size_t total =
      num_bench_rows(options) * std::max<std::size_t>(options.kernels.size(), 1);
  const RowsDone done = [&](std::vector<LayerBenchRow> rows) {
    std::ranges::move(rows, std::back_inserter(result.rows));
    if (options.progress && transport.rank() == 0) options.progress(result.rows.size(), total);
  };
  for (const BenchModel& model : models) {
    for (const std::string& kernel : kernels_for(options, model.shape.weights)) {
      for (const int gpus : options.gpus) {
        const CpuBenchPoint point{model, options, gpus, kernel, threads, result.copy_gb_s};
        if (is_virtual) {
          bench_cpu_virtual_ranks(point, done);
        } else {
          bench_cpu_ranks(point, transport, done);
        }
      }
    }
  }
  return result;
}

}  // namespace metro::layer_bench
