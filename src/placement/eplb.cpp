// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <queue>
#include <vector>

#include "metro/error.hpp"
#include "placement/algorithms.hpp"
#include "placement/packing.hpp"

namespace metro {
namespace {

void check_divides(int divisor, const char* divisor_name, std::size_t count, const char* name) {
  if (count % static_cast<std::size_t>(divisor) != 0) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} {} cannot be split equally into {} {}, must be a multiple of {}",
                            count, name, divisor, divisor_name, divisor));
  }
}

/// Experts in the order of the nodes that serve them, whole groups balanced over the nodes.
std::vector<std::int32_t> experts_by_node(std::span<const float> weight, int num_groups,
                                          int num_nodes) {
  const std::size_t group_size = weight.size() / static_cast<std::size_t>(num_groups);
  std::vector<float> group_weight(static_cast<std::size_t>(num_groups));
  for (std::size_t g = 0; g < group_weight.size(); ++g) {
    const auto members = weight.subspan(g * group_size, group_size);
    // In order; PyTorch may add in another, which shows only where float32 rounds the sum.
    group_weight[g] = std::accumulate(members.begin(), members.end(), 0.0F);
  }
  const Packing packing = pack_balanced(group_weight, num_nodes);
  const std::size_t groups_per_node = group_weight.size() / static_cast<std::size_t>(num_nodes);
  std::vector<std::int32_t> experts(weight.size());
  for (std::size_t g = 0; g < group_weight.size(); ++g) {
    const std::size_t position = static_cast<std::size_t>(packing.pack[g]) * groups_per_node +
                                 static_cast<std::size_t>(packing.rank[g]);
    const auto members = std::span(experts).subspan(position * group_size, group_size);
    std::iota(members.begin(), members.end(), static_cast<std::int32_t>(g * group_size));
  }
  return experts;
}

/// The copies of a node's experts: each once in order, then again and again the one with the most
/// weight per copy, ties to the first.
struct Copies {
  std::vector<std::int32_t> expert;  // [copies]
  std::vector<std::int32_t> count;   // [experts]
};

Copies replicate(std::span<const float> weight, std::size_t num_copies) {
  Copies copies{std::vector<std::int32_t>(weight.size()),
                std::vector<std::int32_t>(weight.size(), 1)};
  std::iota(copies.expert.begin(), copies.expert.end(), 0);

  struct Entry {
    float per_copy;
    std::int32_t expert;
    bool operator<(const Entry& other) const {
      return per_copy != other.per_copy ? per_copy < other.per_copy : expert > other.expert;
    }
  };
  std::priority_queue<Entry> hottest;
  for (const std::int32_t e : copies.expert) hottest.push({weight[static_cast<std::size_t>(e)], e});
  while (copies.expert.size() < num_copies) {
    const std::int32_t e = hottest.top().expert;
    hottest.pop();
    copies.expert.push_back(e);
    const auto i = static_cast<std::size_t>(e);
    hottest.push({weight[i] / static_cast<float>(++copies.count[i]), e});
  }
  return copies;
}

}  // namespace

LayerPlacement place_eplb(std::span<const double> load, const PlacementRequest& request) {
  check_request(load, request);
  check_divides(request.num_groups, "groups", load.size(), "experts");
  check_divides(request.num_nodes, "nodes", static_cast<std::size_t>(request.num_gpus), "GPUs");
  // Groups that the nodes do not divide are no error: they select the global policy.
  const bool hierarchical = request.num_groups % request.num_nodes == 0;
  const int num_groups = hierarchical ? request.num_groups : 1;
  const int num_nodes = hierarchical ? request.num_nodes : 1;

  const std::vector<float> weight = to_float32(load);
  const std::vector<std::int32_t> experts = experts_by_node(weight, num_groups, num_nodes);

  LayerPlacement placement{static_cast<int>(load.size()), request.num_gpus, {}, {}, {}, {}};
  placement.replica_to_gpu = contiguous_gpus(request.num_replicas, request.num_gpus);
  placement.replica_to_expert.resize(placement.replica_to_gpu.size());
  const auto nodes = static_cast<std::size_t>(num_nodes);
  const std::size_t node_experts = experts.size() / nodes;
  const std::size_t node_slots = placement.replica_to_expert.size() / nodes;
  const auto gpu_slots = static_cast<std::size_t>(request.num_replicas / request.num_gpus);
  std::vector<float> node_weight(node_experts);
  std::vector<float> copy_weight(node_slots);
  for (std::size_t node = 0; node < nodes; ++node) {
    const auto members = std::span(experts).subspan(node * node_experts, node_experts);
    std::ranges::transform(members, node_weight.begin(),
                           [&](std::int32_t e) { return weight[static_cast<std::size_t>(e)]; });
    const Copies copies = replicate(node_weight, node_slots);
    std::ranges::transform(copies.expert, copy_weight.begin(), [&](std::int32_t e) {
      const auto i = static_cast<std::size_t>(e);
      return node_weight[i] / static_cast<float>(copies.count[i]);
    });
    const Packing packing = pack_balanced(copy_weight, request.num_gpus / num_nodes);
    for (std::size_t c = 0; c < node_slots; ++c) {
      const std::size_t slot = node * node_slots +
                               static_cast<std::size_t>(packing.pack[c]) * gpu_slots +
                               static_cast<std::size_t>(packing.rank[c]);
      placement.replica_to_expert[slot] = members[static_cast<std::size_t>(copies.expert[c])];
    }
  }
  return placement;
}

}  // namespace metro
