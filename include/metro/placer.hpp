// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "metro/loads.hpp"
#include "metro/placement.hpp"

namespace metro {

/// What a placement must fit.
struct PlacementRequest {
  int num_replicas = 0;  ///< physical slots of a layer, over all GPUs
  int num_gpus = 0;
  int num_groups = 1;  ///< expert groups of the router (hierarchical `eplb`)
  int num_nodes = 1;
};

/// Slots of a layer at this replication: the least multiple of `num_gpus` that is at least
/// num_experts * replication. Exact for decimals such as 1.1. Throws Error{kInfeasible} above
/// kMaxReplicas.
int replicas_for(int num_experts, double replication, int num_gpus);

/// Builds the placement of one layer from the load of its experts.
using PlaceLayer = LayerPlacement (*)(std::span<const double> load,
                                      const PlacementRequest& request);

/// Everything that this program knows of a placement algorithm: one row of its only table
/// (docs/policies.md). An aggregate of facts, each checked against what the algorithm does.
struct PlacementAlgorithm {
  /// What `--algorithm`, files and `place` call it.
  std::string_view name;
  /// How it places, in one line.
  std::string_view rule;
  /// Who places so: an engine, a paper, or this library.
  std::string_view source;
  /// Looks at the load of experts; the others place any load alike.
  bool uses_loads = false;
  /// Looks at PlacementRequest's groups and nodes; the others place as if there were one of each.
  bool uses_groups = false;
  /// May put two copies of an expert on one GPU, where only one of them is of use.
  bool repeats_on_gpu = false;
  /// Places one layer. Throws Error{kInfeasible} where it cannot.
  PlaceLayer place_layer = nullptr;
};

/// All algorithms: what engines do first.
std::span<const PlacementAlgorithm> placement_algorithms();

/// The algorithm of that name, or nullptr.
const PlacementAlgorithm* find_placement_algorithm(std::string_view name);

/// Places every layer with the named algorithm, with shares for `shares` and homes for `home`.
///
///     metro::Placement placement = metro::place(loads, {.num_replicas = 320, .num_gpus = 32},
///     "homed");
///
/// Throws Error{kUsage} for an unknown name or counts < 1, Error{kInfeasible} when the request
/// cannot be met (fewer replicas than experts, replicas not a multiple of GPUs, ...), Error{kInput}
/// for bad loads. Deterministic. 58 layers x 256 experts to 320 replicas take well under 50 ms.
/// Only `eplb` looks at groups and nodes.
Placement place(const Loads& loads, const PlacementRequest& request, std::string_view algorithm);

/// Replica weights that even out expected tokens per GPU for this load: minimises the largest
/// GPU's token load over all ways to split each expert over its replicas, then the next largest,
/// and so on, to within 1e-6. An expert's shares sum to 1; its copies on one GPU get the same, and
/// one without load is split equally. Throws Error{kInput} unless there is a load for every expert.
std::vector<double> solve_shares(const LayerPlacement& placement, std::span<const double> load);

}  // namespace metro
