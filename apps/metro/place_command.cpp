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
  std::string text = fmt::format(
      "{}: {} experts in {} replicas on {} GPUs. Load of a GPU: the replicas of an expert share "
      "its "
      "tokens equally.\n\n{}",
      options.algorithm, placement.num_experts, options.request.num_replicas, placement.num_gpus,
      table.text());
  if (!options.output.empty()) text += fmt::format("\nWritten to {}\n", options.output.string());
  return text;
}

void run(const PlaceOptions& options) {
  const Loads loads = io::read_loads(options.loads);
  const Placement placement =
      naming(options.loads, [&] { return place(loads, options.request, options.algorithm); });
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
  add_int(*command, "--gpus", options->request.num_gpus, {.min = 1}, "GPUs (EP ranks)")->required();
  add_int(*command, "--replicas", options->request.num_replicas, {.min = 1},
          "Physical slots of a layer over all GPUs: a multiple of the GPUs, at least the experts")
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
