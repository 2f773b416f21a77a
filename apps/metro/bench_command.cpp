// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#if METRO_HAVE_CUDA
#include "bench_cuda.hpp"
#endif
#include "command.hpp"
#include "cuda_device.hpp"
#include "metro/batches.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "replay/layer_replay.hpp"
#include "replay/route_timing.hpp"
#include "replay/synthetic_batches.hpp"
#include "report/result.hpp"
#include "report/table.hpp"

#if METRO_HAVE_DINIC
#include "dinic.hpp"
#endif

namespace metro::cli {
namespace {

constexpr int kBatches = 32;

struct BenchRouteOptions : CommonOptions {
  std::vector<int> experts{256};
  std::vector<int> gpus{16};
  std::vector<double> replication{1.5};
  std::vector<int> tokens{256};
  std::vector<int> topk{8};
  std::vector<std::string> policies;
  std::string algorithm{kEplbAlgorithm};
  std::filesystem::path trace;
  std::string device = "cpu";
  bool exchange = false;
  int rounds = 100;
};

struct Shape {
  int experts;
  int gpus;
  double replication;
  int tokens;
  int topk;
};

/// What the routers of one shape are timed on.
struct Workload {
  Loads loads;
  std::vector<TopkBatch> batches;
};

Workload synthetic(const Shape& shape, std::uint64_t seed) {
  std::vector<double> loads = lognormal_loads(shape.experts, seed);
  std::vector<TopkBatch> batches = draw_batches(loads, shape.tokens, shape.topk, kBatches, seed);
  return {{1, shape.experts, std::move(loads)}, std::move(batches)};
}

/// As `compare` draws them, from the first layer.
Workload replayed(const RoutingTrace& trace, int tokens, std::uint64_t seed) {
  const std::int64_t half = trace.num_tokens() / 2;
  DecodeBatches source(trace, half, trace.num_tokens());
  Workload workload{layer_loads(trace.loads(0, half), 0), {}};
  for (int b = 0; b < kBatches; ++b) {
    TopkBatch batch{{}, tokens, trace.topk()};
    batch.ids.resize(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(trace.topk()));
    trace.gather(source.draw(tokens, seed, static_cast<std::uint64_t>(b)), 0, batch.ids);
    workload.batches.push_back(std::move(batch));
  }
  return workload;
}

std::vector<Contender> race(const Shape& shape, const Workload& workload,
                            const BenchRouteOptions& options) {
  const PlacementRequest request{
      .num_replicas = replicas_for(shape.experts, shape.replication, shape.gpus),
      .num_gpus = shape.gpus};
  const LayerPlacement placement = place(workload.loads, request, options.algorithm).layers.front();
  std::vector<Contender> contenders;
  for (const std::string& name : options.policies) {
    contenders.push_back({name, require_policy(name).make(placement, {.seed = options.seed})});
  }
#if METRO_HAVE_DINIC
  contenders.push_back({"dinic", std::make_unique<bench::DinicRouter>(placement)});
#endif
  time_routers(contenders, workload.batches, options.rounds, options.seed);
  return contenders;
}

std::vector<Shape> shapes_of(const BenchRouteOptions& options) {
  std::vector<Shape> shapes;
  for (const int experts : options.experts) {
    for (const int gpus : options.gpus) {
      for (const double replication : options.replication) {
        for (const int tokens : options.tokens) {
          for (const int topk : options.topk) {
            if (topk > experts) {
              throw Error(ErrorCode::kInfeasible,
                          fmt::format("--topk is {}, but there are {} experts", topk, experts));
            }
            shapes.push_back({experts, gpus, replication, tokens, topk});
          }
        }
      }
    }
  }
  return shapes;
}

double time_of(const std::vector<Contender>& contenders, std::string_view name) {
  return std::ranges::find(contenders, name, &Contender::name)->median_ns;
}

void run(BenchRouteOptions options) {
  if (options.device == "cuda") {
    require_cuda_device();
#if METRO_HAVE_CUDA
    bench_route_cuda({options.algorithm, options.seed, options.exchange, options.json});
    return;
#endif
  }
  if (std::ranges::find(options.policies, kHashPolicy) == options.policies.end()) {
    options.policies.emplace_back(kHashPolicy);  // what the others are compared with
  }
  std::unique_ptr<RoutingTrace> trace;
  std::vector<std::filesystem::path> inputs;
  if (!options.trace.empty()) {
    trace = std::make_unique<RoutingTrace>(io::read_trace(options.trace));
    inputs = report::trace_files(options.trace);
    options.experts = {trace->num_experts()};
    options.topk = {trace->topk()};
  }
  auto result =
      report::make_result("bench route", report::Evidence::kMeasured, options.seed, inputs);
  result["device"] = options.device;
  result["algorithm"] = options.algorithm;
  auto rows = nlohmann::ordered_json::array();
  report::Table table(
      {"experts", "GPUs", "replication", "tokens", "top-k", "policy", "median ns", "vs hash"});
  const std::vector<Shape> shapes = shapes_of(options);
  Progress progress("metro: timing routers");
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const Shape& shape = shapes[i];
    const Workload workload =
        trace ? replayed(*trace, shape.tokens, options.seed) : synthetic(shape, options.seed);
    const std::vector<Contender> contenders = race(shape, workload, options);
    const double hash_ns = time_of(contenders, kHashPolicy);
    for (const Contender& contender : contenders) {
      const double vs_hash = contender.median_ns / hash_ns;
      rows.push_back({{"experts", shape.experts},
                      {"gpus", shape.gpus},
                      {"replication", shape.replication},
                      {"tokens", shape.tokens},
                      {"topk", shape.topk},
                      {"policy", contender.name},
                      {"median_ns", contender.median_ns},
                      {"vs_hash", vs_hash}});
      table.add_row({fmt::format("{}", shape.experts), fmt::format("{}", shape.gpus),
                     fmt::format("{:g}", shape.replication), fmt::format("{}", shape.tokens),
                     fmt::format("{}", shape.topk), contender.name,
                     fmt::format("{:.0f}", contender.median_ns), fmt::format("{:.2f}", vs_hash)});
    }
    progress.show(i + 1, shapes.size());
  }
  result["rows"] = std::move(rows);
  print(options.json
            ? report::to_text(result)
            : "CPU time of one call, from top-k ids to replica ids; measured.\n\n" + table.text());
}

void add_bench_route(CLI::App& bench) {
  auto options = std::make_shared<BenchRouteOptions>();
  CLI::App* command =
      add_command(bench, "route", "Time one call of each routing policy, and of Dinic", *options);
  const IntRange positive{.min = 1, .max = 1 << 20};
  CLI::Option* experts = add_int_list(*command, "--experts", options->experts,
                                      {.min = 1, .max = kMaxExperts}, "Experts (default 256)");
  add_int_list(*command, "--gpus", options->gpus, {.min = 1, .max = kMaxGpus}, "GPUs (default 16)");
  add_real_list(*command, "--replication", options->replication, {.min = 1, .max = kMaxReplicas},
                "Slots per expert (default 1.5)");
  add_int_list(*command, "--tokens", options->tokens, positive,
               "Tokens of a batch over all GPUs (default 256)");
  CLI::Option* topk = add_int_list(*command, "--topk", options->topk,
                                   {.min = 1, .max = kMaxExperts}, "Experts per token (default 8)");
  const std::vector<std::string_view> names = policy_names();
  options->policies.assign(names.begin(), names.end());
  add_name_list(*command, "--policy", options->policies, names,
                "Policies (default all):\n" + describe_policies());
  add_name(*command, "--algorithm", options->algorithm, algorithm_names(),
           fmt::format("Placement (default {})", options->algorithm));
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
  add_int(*command, "--rounds", options->rounds, {.min = 1, .max = 1'000'000},
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
