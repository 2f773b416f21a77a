// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "cuda_device.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "replay/route_bench.hpp"
#include "report/result.hpp"
#include "report/route_result.hpp"
#include "terminal.hpp"

#if METRO_HAVE_CUDA
#include "cuda/device_name.hpp"
#include "route_bench/device_bench.hpp"
#endif
#if METRO_HAVE_DINIC
#include "dinic.hpp"
#endif

namespace metro::cli {
namespace {

struct BenchRouteOptions : CommonOptions {
  RouteBenchSpec spec;
  std::filesystem::path trace;
  std::string device = "cpu";
  bool exchange = false;
};

void run_cuda([[maybe_unused]] const BenchRouteOptions& options) {
  require_cuda_device();
#if METRO_HAVE_CUDA
  const route_bench::DeviceBenchOptions bench{options.spec.algorithm, options.seed,
                                              options.exchange};
  const std::string device = cuda::device_name();
  const std::vector<DeviceRouteRow> rows = [&] {
    Progress progress("metro: timing kernels");
    return route_bench::bench_device_routes(
        bench, [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  }();
  print(options.json ? report::to_text(
                           report::device_route_result(rows, device, bench.algorithm, options.seed))
                     : report::device_route_table(rows, device, table_width(options.wide)));
#endif
}

void check(const BenchRouteOptions& options) {
  if (!options.trace.empty()) return;  // its own top-k
  for (const int topk : options.spec.topk) {
    for (const int experts : options.spec.experts) {
      if (topk <= experts) continue;
      throw Error(ErrorCode::kInfeasible,
                  fmt::format("--topk is {}, but there are {} experts", topk, experts));
    }
  }
}

void run(const BenchRouteOptions& options) {
  if (options.device == "cuda") {
    run_cuda(options);
    return;
  }
  check(options);
  RouteBenchSpec spec = options.spec;
  spec.seed = options.seed;
  std::optional<RoutingTrace> trace;
  std::vector<std::filesystem::path> inputs;
  if (!options.trace.empty()) {
    trace = io::read_trace(options.trace);
    spec.trace = &*trace;
    inputs = report::trace_files(options.trace);
  }
#if METRO_HAVE_DINIC
  spec.rival = "dinic";
  spec.make_rival = [](const LayerPlacement& placement) {
    return std::make_unique<bench::DinicRouter>(placement);
  };
#endif
  const std::vector<RouteBenchRow> rows = [&] {
    Progress progress("metro: timing routers");
    return bench_routes(spec,
                        [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  }();
  print(options.json ? report::to_text(report::route_result(spec, rows, inputs))
                     : report::route_table(rows, table_width(options.wide)));
}

void add_bench_route(CLI::App& bench) {
  auto options = std::make_shared<BenchRouteOptions>();
  RouteBenchSpec& spec = options->spec;
  CLI::App* command =
      add_command(bench, "route", "Time one call of each routing policy, and of Dinic", *options);
  const IntRange positive{.min = 1, .max = 1 << 20};
  CLI::Option* experts = add_int_list(*command, "--experts", spec.experts,
                                      {.min = 1, .max = kMaxExperts}, "Experts (default 256)");
  add_int_list(*command, "--gpus", spec.gpus, {.min = 1, .max = kMaxGpus}, "GPUs (default 16)");
  add_real_list(*command, "--replication", spec.replication, {.min = 1, .max = kMaxReplicas},
                "Slots per expert (default 1.5)");
  add_int_list(*command, "--tokens", spec.tokens, positive,
               "Tokens of a batch over all GPUs (default 256)");
  CLI::Option* topk = add_int_list(*command, "--topk", spec.topk, {.min = 1, .max = kMaxExperts},
                                   "Experts per token (default 8)");
  const std::vector<std::string_view> names = policy_names();
  spec.policies.assign(names.begin(), names.end());
  add_name_list(*command, "--policy", spec.policies, names,
                "Policies (default all):\n" + describe_policies());
  add_name(*command, "--algorithm", spec.algorithm, algorithm_names(),
           fmt::format("Placement (default {})", spec.algorithm));
  add_path(*command, "--trace", options->trace,
           "Batches of the first layer of this trace instead of synthetic ones")
      ->excludes(experts)
      ->excludes(topk);
  add_name(*command, "--device", options->device, std::array<std::string_view, 2>{"cpu", "cuda"},
           "Where to route (default cpu)");
  command->add_flag(
      "--exchange", options->exchange,
      "Also time ranks that exchange what they activate, on one GPU and between those "
      "here (--device cuda)");
  add_int(*command, "--rounds", spec.rounds, {.min = 1, .max = 1'000'000},
          "Timed calls per batch and policy (default 100)");
  command->footer("Example: metro bench route --gpus 8,16,32 --tokens 32,256 --json");
  command->callback([options] { run(*options); });
}

}  // namespace

void add_bench(CLI::App& app) {
  CLI::App& bench = *add_group(app, "bench", "Time routers and layers on this machine");
  add_bench_route(bench);
  add_bench_layer(bench);
}

}  // namespace metro::cli
