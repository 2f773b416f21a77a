// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/rank_start.hpp"

#include <chrono>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <utility>

#include "metro/ep/local_transport.hpp"
#include "metro/ep/mpi_transport.hpp"
#include "metro/error.hpp"

#if METRO_HAVE_MPI
#include "layer_bench/lost_rank_notice.hpp"
#endif

namespace metro::layer_bench {
namespace {

LayerBenchResult bench_on(int ranks, const LayerBenchOptions& options) {
  // Threads that hang outlive the call, so they own what they refer to.
  const auto shared = std::make_shared<std::pair<LayerBenchOptions, LayerBenchResult>>();
  shared->first = options;
  ep::run_local_ranks(ranks, options.timeout_s, [shared](ep::Transport& rank) {
    LayerBenchResult result = run_layer_bench_cpu(shared->first, rank);
    if (rank.rank() == 0) shared->second = std::move(result);
  });
  return std::move(shared->second);
}

}  // namespace

std::unique_ptr<ep::Transport> started_ranks(double timeout_s) {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    const char* size = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe): nobody sets it
    if (size != nullptr && std::string_view(size) != "1") return ep::make_mpi_transport(timeout_s);
  }
  return nullptr;
}

#if METRO_HAVE_MPI
std::optional<LayerBenchResult> speak_in_turn(
    ep::Transport& ranks, const std::function<std::optional<LayerBenchResult>()>& work) {
  try {
    const LostRankNotice notice(ranks.rank(), ranks.size());
    return work();
  } catch (const Error&) {
    std::this_thread::sleep_for(std::chrono::seconds(2) * ranks.rank());
    LostRankNotice::claim();
    throw;
  }
}
#else
std::optional<LayerBenchResult> speak_in_turn(
    ep::Transport& /*ranks*/, const std::function<std::optional<LayerBenchResult>()>& work) {
  return work();
}
#endif

LayerBenchResult bench_in_turn(const LayerBenchOptions& options) { return bench_on(1, options); }

LayerBenchResult bench_on_threads(const LayerBenchOptions& options) {
  return bench_on(options.gpus.front(), options);
}

std::optional<LayerBenchResult> bench_on_mpi_ranks(LayerBenchOptions options) {
  const std::unique_ptr<ep::Transport> transport = ep::make_mpi_transport(options.timeout_s);
  if (transport->size() == 1) {
    throw Error(ErrorCode::kUsage, "one rank was started, must be more, as mpirun -np N starts");
  }
  return speak_in_turn(*transport, [&]() -> std::optional<LayerBenchResult> {
    if (options.gpus.empty()) options.gpus = {transport->size()};
    LayerBenchResult result = run_layer_bench_cpu(options, *transport);
    if (transport->rank() != 0) return std::nullopt;
    return result;
  });
}

}  // namespace metro::layer_bench
