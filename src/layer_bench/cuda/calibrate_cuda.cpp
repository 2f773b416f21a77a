// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/calibrate_cuda.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/device_name.hpp"
#include "ep/cuda/blas.hpp"
#include "ep/cuda/stream.hpp"
#include "ep/node_rank.hpp"
#include "layer_bench/cuda/bench_timing.hpp"
#include "layer_bench/cuda/expert_timer.hpp"
#include "layer_bench/cuda/random_experts.hpp"
#include "layer_bench/random_weights.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "replay/synthetic_batches.hpp"
#if METRO_HAVE_NCCL
#include "ep/cuda/nccl_transport.hpp"
#include "layer_bench/cuda/collective_timer.hpp"
#include "layer_bench/cuda/local_gpus.hpp"
#endif

namespace metro::layer_bench::cuda {
namespace {

/// bf16 product of large square matrices.
double measure_gemm_tflops(const ep::cuda::Stream& stream) {
  constexpr int kSide = 8192;
  const auto a = random_matrix(kSide, kSide, weight_key(0, 0, MatrixKind::kGateUp));
  const auto b = random_matrix(kSide, kSide, weight_key(0, 0, MatrixKind::kDown));
  const auto c =
      metro::cuda::make_device_array<__nv_bfloat16>(static_cast<std::size_t>(kSide) * kSide);
  ep::cuda::Blas blas;
  const auto multiply = [&] {
    blas.multiply(a.get(), b.get(), c.get(), kSide, kSide, kSide, stream);
  };
  StreamClock clock(stream);
  for (int i = 0; i < 3; ++i) multiply();
  for (int i = 0; i < 15; ++i) clock.time(0, multiply);
  stream.wait();
  return 2e-6 * kSide * kSide * static_cast<double>(kSide) / clock.read(1)[0];
}

std::vector<std::pair<std::string, double>> time_policies(const CalibrateOptions& options,
                                                          const ep::cuda::Stream& stream) {
  const RouterBatches of;
  const std::vector<double> loads = lognormal_loads(of.num_experts, options.seed);
  const Placement placement =
      place({1, of.num_experts, loads}, {.num_replicas = of.num_replicas, .num_gpus = of.num_gpus},
            of.algorithm);
  std::vector<std::int32_t> ids;
  for (const TopkBatch& batch : draw_batches(loads, of.tokens, of.topk, of.batches, options.seed)) {
    ids.insert(ids.end(), batch.ids.begin(), batch.ids.end());
  }
  const auto device_ids = metro::cuda::make_device_array<std::int32_t>(ids.size());
  const auto replicas = metro::cuda::make_device_array<std::int32_t>(ids.size());
  METRO_CUDA_CHECK(cudaMemcpy(device_ids.get(), ids.data(), ids.size() * sizeof(std::int32_t),
                              cudaMemcpyHostToDevice));
  const std::size_t batch_ids = ids.size() / static_cast<std::size_t>(of.batches);
  std::vector<std::pair<std::string, double>> times;
  for (const PolicyInfo& policy : policies()) {
    if (!policy.device) continue;
    metro::cuda::Router router(placement,
                               {.policy = policy.name, .max_tokens = of.tokens, .topk = of.topk});
    std::size_t turn = 0;
    const auto route = [&] {
      const std::size_t first = turn++ % static_cast<std::size_t>(of.batches) * batch_ids;
      router.route(0, device_ids.get() + first, of.tokens, replicas.get() + first, stream);
    };
    route();  // kernels load
    times.emplace_back(policy.name, rounded_us(time_in_a_row(stream, options.quick ? 11 : 101,
                                                             route, [&] { stream.wait(); })));
  }
  return times;
}

#if METRO_HAVE_NCCL
std::chrono::milliseconds timeout_of(const CalibrateOptions& options) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(1000 * options.timeout_s));
}

/// 2, 4, ... and all of them.
std::vector<int> group_sizes(int gpus) {
  std::vector<int> sizes;
  for (int size = 2; size < gpus; size *= 2) sizes.push_back(size);
  if (gpus > 1) sizes.push_back(gpus);
  return sizes;
}

void add_collectives(const CalibrateOptions& options, ep::Transport* ranks, int visible,
                     CalibrationRun& run) {
  const auto add = [&run](std::vector<Calibration::Collective> more) {
    std::ranges::move(more, std::back_inserter(run.calibration.collectives));
  };
  if (ranks != nullptr) {
    ep::cuda::NcclTransport transport(ep::cuda::share_nccl_id(*ranks), ranks->rank(), ranks->size(),
                                      timeout_of(options));
    add(time_collectives(transport, options.quick));
    return;
  }
  if (visible == 1) run.left_out.emplace_back("collectives: one GPU has nobody to talk to");
  for (const int gpus : group_sizes(visible)) {
    if (options.progress) options.progress(fmt::format("collectives of {} GPUs", gpus));
    run_local_gpus(gpus, [&](int rank, const ncclUniqueId& id) {
      ep::cuda::NcclTransport transport(id, rank, gpus, timeout_of(options));
      std::vector<Calibration::Collective> own = time_collectives(transport, options.quick);
      if (rank == 0) add(std::move(own));
    });
  }
}
#endif

}  // namespace

std::optional<CalibrationRun> calibrate_cuda(const CalibrateOptions& options,
                                             std::unique_ptr<ep::Transport> ranks) {
  const RunClock clock(options.budget_s);
  CalibrationRun run;
  run.calibration.device = metro::cuda::device_name();  // throws where there is no GPU
  int visible = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
  const int own = ranks ? ep::node_rank(*ranks) % visible : 0;
  METRO_CUDA_CHECK(cudaSetDevice(own));
#if METRO_HAVE_NCCL
  add_collectives(options, ranks.get(), visible, run);
  METRO_CUDA_CHECK(cudaSetDevice(own));
#else
  run.left_out.emplace_back("collectives: this build has no NCCL");
#endif
  const bool is_first = !ranks || ranks->rank() == 0;
  ranks.reset();
  if (!is_first) return std::nullopt;
  const ep::cuda::Stream stream;
  if (options.progress) options.progress(fmt::format("{:.0f} s: copy, product", clock.used_s()));
  run.calibration.copy_gb_s = rounded_us(measure_copy_gb_s(stream));
  run.calibration.gemm_tflops = rounded_us(measure_gemm_tflops(stream));
  if (options.progress) options.progress(fmt::format("{:.0f} s: policies", clock.used_s()));
  run.calibration.router_us = time_policies(options, stream);
  time_experts(
      options, clock,
      [&](const ExpertShape& shape, int most) {
        return std::make_unique<GpuExpertTimer>(shape, most, options, stream);
      },
      run);
  return run;
}

}  // namespace metro::layer_bench::cuda
