// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/layer_bench_cuda.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_name.hpp"
#include "layer_bench/bench_grid.hpp"
#include "layer_bench/cuda/bench_timing.hpp"
#include "layer_bench/cuda/rank_bench.hpp"
#include "layer_bench/cuda/virtual_bench.hpp"
#include "metro/error.hpp"
#if METRO_HAVE_NCCL
#include "ep/cuda/nccl_transport.hpp"
#include "ep/node_rank.hpp"
#include "layer_bench/cuda/local_gpus.hpp"
#endif

namespace metro::layer_bench::cuda {
namespace {

/// Counts rows for the caller's progress.
class Progress {
 public:
  explicit Progress(const LayerBenchOptions& options)
      : options_(options), total_(num_bench_rows(options)) {}
  void step() {
    ++done_;
    if (options_.progress) options_.progress(done_, total_);
  }

 private:
  const LayerBenchOptions& options_;
  std::size_t total_;
  std::size_t done_ = 0;
};

void append(std::vector<LayerBenchRow>& rows, std::vector<LayerBenchRow> more) {
  std::ranges::move(more, std::back_inserter(rows));
}

LayerBenchResult bench_virtual(const LayerBenchOptions& options) {
  LayerBenchResult result{metro::cuda::device_name(), "virtual", kNotMeasured, {}};
  result.copy_gb_s = measure_copy_gb_s(ep::cuda::Stream());
  Progress progress(options);
  for (const BenchModel& model : bench_models(options)) {
    const WeightSets weights(model.config.name, model.shape, options.seed);
    for (const int gpus : options.gpus) {
      append(result.rows, bench_virtual_ranks(model, gpus, weights, options, result.copy_gb_s,
                                              [&] { progress.step(); }));
    }
  }
  return result;
}

#if METRO_HAVE_NCCL
/// This rank's part, on the current device.
LayerBenchResult bench_rank(const LayerBenchOptions& options, const ncclUniqueId& id, int rank,
                            int size, std::chrono::milliseconds timeout) {
  ep::cuda::NcclTransport transport(id, rank, size, timeout);
  LayerBenchResult result{
      metro::cuda::device_name(), std::string(transport.name()), kNotMeasured, {}};
  result.copy_gb_s = measure_copy_gb_s(ep::cuda::Stream());
  Progress progress(options);
  for (const BenchModel& model : bench_models(options)) {
    append(result.rows, bench_real_ranks(model, transport, options, result.copy_gb_s, [&] {
             if (rank == 0) progress.step();
           }));
  }
  return result;
}

/// All GPUs of this process, a thread each.
LayerBenchResult bench_local_gpus(const LayerBenchOptions& options, int gpus,
                                  std::chrono::milliseconds timeout) {
  LayerBenchResult result;
  run_local_gpus(gpus, [&](int rank, const ncclUniqueId& id) {
    LayerBenchResult own = bench_rank(options, id, rank, gpus, timeout);
    if (rank == 0) result = std::move(own);
  });
  return result;
}

void check_ranks(const LayerBenchOptions& options, int ranks) {
  if (options.gpus == std::vector{ranks}) return;
  throw Error(ErrorCode::kUsage,
              fmt::format("{} ranks were started, so gpus must be {}", ranks, ranks));
}
#endif

}  // namespace

std::optional<LayerBenchResult> run_layer_bench_cuda(const LayerBenchOptions& options,
                                                     ep::Transport* ranks) {
  static_cast<void>(metro::cuda::device_name());  // throws where there is no GPU
  int visible = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
#if METRO_HAVE_NCCL
  const auto timeout =
      std::chrono::milliseconds(static_cast<std::int64_t>(1000 * options.timeout_s));
  if (ranks != nullptr) {
    check_ranks(options, ranks->size());
    METRO_CUDA_CHECK(cudaSetDevice(ep::node_rank(*ranks) % visible));
    const ncclUniqueId id = ep::cuda::share_nccl_id(*ranks);
    LayerBenchResult result = bench_rank(options, id, ranks->rank(), ranks->size(), timeout);
    if (ranks->rank() != 0) return std::nullopt;
    return result;
  }
  if (options.gpus == std::vector{visible}) return bench_local_gpus(options, visible, timeout);
#else
  if (ranks != nullptr) {
    throw Error(ErrorCode::kUsage, "several ranks need NCCL, which this build does not have");
  }
#endif
  return bench_virtual(options);
}

}  // namespace metro::layer_bench::cuda
