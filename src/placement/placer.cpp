// SPDX-License-Identifier: Apache-2.0
#include "metro/placer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "metro/error.hpp"
#include "metro/homes.hpp"
#include "placement/algorithms.hpp"

namespace metro {
namespace {

/// The one table of placements; what a row leaves out is false.
constexpr auto kAlgorithms = std::to_array<PlacementAlgorithm>({
    {.name = "eplb",
     .rule = "balances expected tokens per GPU, as DeepSeek's EPLB bit for bit",
     .source = "DeepSeek; vLLM, SGLang",
     .uses_loads = true,
     .uses_groups = true,
     .repeats_on_gpu = true,
     .place_layer = place_eplb},
    {.name = "contiguous",
     .rule = "slot p holds expert p mod E, whatever the load",
     .source = "engines before they rebalance",
     .repeats_on_gpu = true,
     .place_layer = place_contiguous},
    {.name = "homed",
     .rule = "a home for every expert, second copies of hot ones: never worse than EPLB off",
     .source = "metro",
     .uses_loads = true,
     .place_layer = place_homed},
});

std::string algorithm_names() {
  std::string names;
  for (const PlacementAlgorithm& algorithm : kAlgorithms) {
    names += names.empty() ? "" : ", ";
    names += algorithm.name;
  }
  return names;
}

}  // namespace

std::span<const PlacementAlgorithm> placement_algorithms() { return kAlgorithms; }

const PlacementAlgorithm* find_placement_algorithm(std::string_view name) {
  const auto* found = std::ranges::find(kAlgorithms, name, &PlacementAlgorithm::name);
  return found == kAlgorithms.end() ? nullptr : found;
}

Placement place(const Loads& loads, const PlacementRequest& request, std::string_view algorithm) {
  const PlacementAlgorithm* chosen = find_placement_algorithm(algorithm);
  if (chosen == nullptr) {
    throw Error(ErrorCode::kUsage,
                fmt::format("algorithm is '{}', must be one of {}", algorithm, algorithm_names()));
  }
  loads.validate();
  Placement placement{loads.num_experts, request.num_gpus, {}};
  placement.layers.reserve(static_cast<std::size_t>(loads.num_layers));
  for (int i = 0; i < loads.num_layers; ++i) {
    LayerPlacement layer = chosen->place_layer(loads.layer(i), request);
    if (layer.home.empty()) layer.home = solve_homes(layer, loads.layer(i));
    layer.shares = solve_shares(layer, loads.layer(i));
    placement.layers.push_back(std::move(layer));
  }
  return placement;
}

}  // namespace metro
