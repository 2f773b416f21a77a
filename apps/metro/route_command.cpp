// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "command.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/metrics.hpp"
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

std::string table(const RoutingMetrics& metrics, const TopkBatch& batch,
                  const std::string& policy) {
  report::Table gpus({"GPU", "activated", "tokens"});
  for (std::size_t g = 0; g < metrics.activated_per_gpu.size(); ++g) {
    gpus.add_row({fmt::format("{}", g), fmt::format("{}", metrics.activated_per_gpu[g]),
                  fmt::format("{}", metrics.tokens_per_gpu[g])});
  }
  return fmt::format("{}: {} tokens x {}, max activated {}, max tokens {}\n\n{}", policy,
                     batch.num_tokens, batch.topk, metrics.max_activated, metrics.max_tokens,
                     gpus.text());
}

std::string json(const RoutingMetrics& metrics, const TopkBatch& batch,
                 const std::vector<std::int32_t>& replica_ids, const RouteCommandOptions& options) {
  auto result = report::make_result("route", report::Evidence::kSimulated, options.seed,
                                    {options.placement, options.topk});
  result["policy"] = options.policy;
  result["layer"] = options.layer;
  result["max_activated"] = metrics.max_activated;
  result["activated_per_gpu"] = metrics.activated_per_gpu;
  result["tokens_per_gpu"] = metrics.tokens_per_gpu;
  auto rows = nlohmann::ordered_json::array();
  for (int t = 0; t < batch.num_tokens; ++t) {
    const auto begin = replica_ids.begin() + std::ptrdiff_t{t} * batch.topk;
    rows.push_back(std::vector<std::int32_t>(begin, begin + batch.topk));
  }
  result["replica_ids"] = std::move(rows);
  return report::to_text(result);
}

void run(const RouteCommandOptions& options) {
  const Placement placement = io::read_placement(options.placement);
  const LayerPlacement& layer = pick_layer(placement, options);
  const TopkBatch batch = io::read_topk(options.topk, placement.num_experts);
  Router router(layer, options.policy,
                {.seed = options.seed, .layer = options.layer, .num_nodes = options.nodes});
  std::vector<std::int32_t> replica_ids(batch.ids.size());
  router.route(batch.view(), replica_ids);
  MetricsCounter counter(layer);
  const RoutingMetrics& metrics = counter.count(replica_ids);
  print(options.json ? json(metrics, batch, replica_ids, options)
                     : table(metrics, batch, options.policy));
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
  command->footer(
      "Example: metro route --placement placement.json --topk batch.npy "
      "--policy optimal --json");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
