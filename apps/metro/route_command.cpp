// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "command.hpp"
#include "cost_options.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/metrics.hpp"
#include "metro/modelled_time.hpp"
#include "metro/router.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::cli {
namespace {

struct RouteCommandOptions : CommonOptions {
  std::filesystem::path placement;
  std::filesystem::path topk;
  std::string policy;
  int layer = 0;
  int nodes = 1;
  CostOptions cost;
};

/// What the command prints; without a price where neither the policy nor the user asks for one.
struct Routed {
  const RoutingMetrics& metrics;
  const std::vector<std::int32_t>& replica_ids;
  std::optional<ModelledTime> time;
  double bound_us = 0;
  int shards = 1;  ///< of the placement
};

const LayerPlacement& pick_layer(const Placement& placement, const RouteCommandOptions& options) {
  const auto layer = static_cast<std::size_t>(options.layer);
  if (layer >= placement.layers.size()) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: --layer is {}, but the placement has layers 0..{}",
                            options.placement.string(), layer, placement.layers.size() - 1));
  }
  if (placement.num_gpus % options.nodes != 0) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: --nodes is {}, must divide the placement's {} GPUs",
                            options.placement.string(), options.nodes, placement.num_gpus));
  }
  return placement.layers[layer];
}

/// In experts' worth of bytes on a GPU: where experts are sharded, each reads a part of them.
nlohmann::ordered_json max_activated(const Routed& routed) {
  if (routed.shards == 1) return routed.metrics.max_activated;
  return static_cast<double>(routed.metrics.max_activated) / routed.shards;
}

std::string table(const Routed& routed, const TopkBatch& batch, const std::string& policy) {
  const RoutingMetrics& metrics = routed.metrics;
  std::vector<std::string> header{routed.shards == 1 ? "GPU" : "group", "activated", "tokens"};
  if (routed.time) header.emplace_back("modelled us");
  report::Table gpus(header);
  for (std::size_t g = 0; g < metrics.activated_per_gpu.size(); ++g) {
    std::vector<std::string> row{fmt::format("{}", g),
                                 fmt::format("{}", metrics.activated_per_gpu[g]),
                                 fmt::format("{}", metrics.tokens_per_gpu[g])};
    if (routed.time) row.push_back(fmt::format("{:.2f}", routed.time->per_gpu_us[g]));
    gpus.add_row(std::move(row));
  }
  std::string text =
      fmt::format("{}: {} tokens x {}, max activated {}, max tokens {}\n", policy, batch.num_tokens,
                  batch.topk, max_activated(routed).dump(), metrics.max_tokens);
  if (routed.time) {
    text += fmt::format("slowest GPU {:.2f} us as modelled, no routing is below {:.2f} us\n",
                        routed.time->slowest_us, routed.bound_us);
  }
  return text + "\n" + gpus.text();
}

std::string json(const Routed& routed, const TopkBatch& batch, const RouteCommandOptions& options) {
  std::vector<std::filesystem::path> inputs{options.placement, options.topk};
  if (options.cost.is_given()) inputs.push_back(options.cost.cost);
  auto result = report::make_result("route", report::Evidence::kSimulated, options.seed, inputs);
  result["policy"] = options.policy;
  result["layer"] = options.layer;
  if (routed.shards > 1) result["shards"] = routed.shards;  // what is per GPU is per group
  result["max_activated"] = max_activated(routed);
  result["activated_per_gpu"] = routed.metrics.activated_per_gpu;
  result["tokens_per_gpu"] = routed.metrics.tokens_per_gpu;
  if (routed.time) {
    result["modelled_us"] = routed.time->per_gpu_us;
    result["bound_us"] = routed.bound_us;
  }
  auto rows = nlohmann::ordered_json::array();
  for (int t = 0; t < batch.num_tokens; ++t) {
    const auto begin = routed.replica_ids.begin() + std::ptrdiff_t{t} * batch.topk;
    rows.push_back(std::vector<std::int32_t>(begin, begin + batch.topk));
  }
  result["replica_ids"] = std::move(rows);
  return report::to_text(result);
}

void run(const RouteCommandOptions& options) {
  options.cost.check();
  const Placement placement = io::read_placement(options.placement);
  const LayerPlacement& layer = pick_layer(placement, options);
  const TopkBatch batch = io::read_topk(options.topk, placement.num_experts);
  const std::shared_ptr<const ExpertCost> cost = options.cost.read();
  Router router(
      layer, options.policy,
      {.seed = options.seed, .layer = options.layer, .num_nodes = options.nodes, .cost = cost});
  std::vector<std::int32_t> replica_ids(batch.ids.size());
  router.route(batch.view(), replica_ids);
  MetricsCounter counter(layer);
  Routed routed{counter.count(replica_ids), replica_ids, {}};
  routed.shards = placement.shards;
  if (options.cost.is_given() || require_policy(options.policy).uses_cost) {
    routed.time = TimeCounter(layer, cost).count(replica_ids);
    routed.bound_us = time_bound_us(layer, *cost, batch.view());
  }
  print(options.json ? json(routed, batch, options) : table(routed, batch, options.policy));
}

}  // namespace

void add_route(CLI::App& app) {
  auto options = std::make_shared<RouteCommandOptions>();
  CLI::App* command =
      add_command(app, "route", "Route one batch over the replicas of a placement", *options);
  add_path(*command, "--placement", options->placement, "Placement file (metro place -o)")
      ->required();
  add_path(*command, "--topk", options->topk,
           "Experts of each token: .npy [tokens, topk], or JSON [[...], ...]; -1 = masked")
      ->required();
  add_name(*command, "--policy", options->policy, policy_names(),
           "How to choose replicas:\n" + describe_policies())
      ->required();
  add_int(*command, "--layer", options->layer, {}, "Layer of the placement (default 0)");
  add_int(*command, "--nodes", options->nodes, {.min = 1},
          "Nodes that the GPUs are spread over, for static (default 1)");
  add_cost_options(*command, options->cost);
  command->footer(
      "Example: metro route --placement placement.json --topk batch.npy "
      "--policy optimal --json");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
