// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "command.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/placer.hpp"
#include "metro/policy_names.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/table.hpp"

namespace metro::cli {
namespace {

struct PlaceOptions : CommonOptions {
  std::filesystem::path loads;
  PlacementRequest request;
  int ep = 0;  ///< 0: all GPUs
  std::string algorithm{kEplbAlgorithm};
  std::filesystem::path output;
};

/// What the table tells of one layer.
struct LayerSummary {
  int replicated_experts = 0;
  int most_copies = 0;
  double max_load = 0;  ///< of a GPU, when the replicas of an expert share its load equally
  double mean_load = 0;
};

LayerSummary summarise(const LayerPlacement& layer, std::span<const double> load) {
  std::vector<int> copies(static_cast<std::size_t>(layer.num_experts), 0);
  for (const std::int32_t e : layer.replica_to_expert) ++copies[static_cast<std::size_t>(e)];
  std::vector<double> gpu_load(static_cast<std::size_t>(layer.num_gpus), 0.0);
  for (std::size_t slot = 0; slot < layer.replica_to_expert.size(); ++slot) {
    const auto expert = static_cast<std::size_t>(layer.replica_to_expert[slot]);
    const auto gpu = static_cast<std::size_t>(layer.replica_to_gpu[slot]);
    gpu_load[gpu] += load[expert] / copies[expert];
  }
  return {
      .replicated_experts =
          static_cast<int>(std::ranges::count_if(copies, [](int n) { return n > 1; })),
      .most_copies = std::ranges::max(copies),
      .max_load = std::ranges::max(gpu_load),
      .mean_load = std::accumulate(load.begin(), load.end(), 0.0) / layer.num_gpus,
  };
}

std::string describe(const Placement& placement, const Loads& loads, const PlaceOptions& options) {
  report::Table table(
      {"layer", "replicated experts", "most copies", "max load", "mean load", "max/mean"});
  for (int i = 0; i < loads.num_layers; ++i) {
    const LayerSummary layer =
        summarise(placement.layers[static_cast<std::size_t>(i)], loads.layer(i));
    table.add_row(
        {fmt::format("{}", i), fmt::format("{}", layer.replicated_experts),
         fmt::format("{}", layer.most_copies), fmt::format("{:.1f}", layer.max_load),
         fmt::format("{:.1f}", layer.mean_load),
         layer.mean_load > 0 ? fmt::format("{:.3f}", layer.max_load / layer.mean_load) : "-"});
  }
  const std::string where =
      placement.shards == 1 ? fmt::format("{} GPUs. Load of a GPU", placement.num_gpus)
                            : fmt::format("{} GPUs in {} groups, {} to a replica. Load of a group",
                                          placement.num_gpus * placement.shards, placement.num_gpus,
                                          placement.shards);
  std::string text = fmt::format(
      "{}: {} experts in {} replicas on {}: the replicas of an expert share its tokens "
      "equally.\n\n{}",
      options.algorithm, placement.num_experts, options.request.num_replicas, where, table.text());
  if (!options.output.empty()) text += fmt::format("\nWritten to {}\n", options.output.string());
  return text;
}

void run(const PlaceOptions& options) {
  if (options.ep > 0 && options.request.num_gpus % options.ep != 0) {
    throw Error(ErrorCode::kUsage, fmt::format("--ep is {}, must divide --gpus, which is {}",
                                               options.ep, options.request.num_gpus));
  }
  const Loads loads = io::read_loads(options.loads);
  PlacementRequest request = options.request;
  if (options.ep > 0) request.num_gpus = options.ep;
  const Placement placement = naming(options.loads, [&] {
    if (options.ep == 1 && request.num_replicas > loads.num_experts) {
      throw Error(ErrorCode::kInfeasible,
                  fmt::format("{} replicas on one group of GPUs, must be {}: every GPU holds a "
                              "part of every expert",
                              request.num_replicas, loads.num_experts));
    }
    Placement placed = place(loads, request, options.algorithm);
    placed.shards = options.request.num_gpus / request.num_gpus;
    return placed;
  });
  const std::string file = io::format_placement(placement);
  if (!options.output.empty()) io::write_file(options.output, file);
  print(options.json ? file : describe(placement, loads, options));
}

}  // namespace

void add_place(CLI::App& app) {
  auto options = std::make_shared<PlaceOptions>();
  CLI::App* command =
      add_command(app, "place", "Place replicas of experts on GPUs by their loads", *options);
  add_path(*command, "--loads", options->loads,
           "Tokens per [layer, expert]: .npy, or JSON {\"loads\": [[...], ...]}")
      ->required();
  add_int(*command, "--gpus", options->request.num_gpus, {.min = 1, .max = kMaxGpus}, "GPUs in all")
      ->required();
  add_int(*command, "--ep", options->ep, {.min = 1, .max = kMaxGpus},
          "GPUs that the experts are spread over; each is sharded beyond. Divides --gpus (default: "
          "all GPUs)");
  add_int(*command, "--replicas", options->request.num_replicas, {.min = 1},
          "Physical slots of a layer in all: a multiple of --ep, at least the experts")
      ->required();
  add_int(*command, "--groups", options->request.num_groups, {.min = 1},
          "Expert groups of the router, for hierarchical eplb (default 1)");
  add_int(*command, "--nodes", options->request.num_nodes, {.min = 1},
          "Nodes that the GPUs are spread over (default 1)");
  add_name(*command, "--algorithm", options->algorithm, algorithm_names(),
           fmt::format("How to place (default {}, what engines do today):\n{}", kEplbAlgorithm,
                       describe_algorithms()));
  add_path(*command, "-o,--output", options->output, "Write the placement to this file");
  command->footer(
      "Example: metro place --loads loads.npy --gpus 16 --replicas 384 "
      "--algorithm homed -o placement.json");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
