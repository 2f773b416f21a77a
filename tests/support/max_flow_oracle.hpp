// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <lemon/preflow.h>
#include <lemon/smart_graph.h>

#include <algorithm>
#include <set>
#include <vector>

#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro::test {

/// The fewest activated experts that the busiest GPU can have, by LEMON's max-flow in a binary
/// search; built from the raw placement, so that it shares nothing with the routing code.
inline int oracle_max_activated(const LayerPlacement& placement, const TopkBatch& topk) {
  std::set<std::int32_t> active(topk.ids.begin(), topk.ids.end());
  active.erase(kMasked);
  if (active.empty()) return 0;

  lemon::SmartDigraph graph;
  lemon::SmartDigraph::ArcMap<int> capacity(graph);
  const auto source = graph.addNode();
  const auto sink = graph.addNode();
  const auto add_arc = [&](auto from, auto to, int value) {
    const auto arc = graph.addArc(from, to);
    capacity[arc] = value;
    return arc;
  };
  std::vector<lemon::SmartDigraph::Node> gpus;
  std::vector<lemon::SmartDigraph::Arc> gpu_arcs;
  for (int g = 0; g < placement.num_gpus; ++g) {
    gpus.push_back(graph.addNode());
    gpu_arcs.push_back(add_arc(gpus.back(), sink, 0));
  }
  for (const std::int32_t expert : active) {
    const auto node = graph.addNode();
    add_arc(source, node, 1);
    for (std::size_t slot = 0; slot < placement.replica_to_expert.size(); ++slot) {
      if (placement.replica_to_expert[slot] != expert) continue;
      add_arc(node, gpus[static_cast<std::size_t>(placement.replica_to_gpu[slot])], 1);
    }
  }
  const int jobs = static_cast<int>(active.size());
  int low = 1;
  int high = jobs;
  while (low < high) {
    const int middle = (low + high) / 2;
    for (const auto arc : gpu_arcs) capacity[arc] = middle;
    lemon::Preflow<lemon::SmartDigraph> flow(graph, capacity, source, sink);
    flow.runMinCut();
    (flow.flowValue() == jobs ? high : low) = flow.flowValue() == jobs ? middle : middle + 1;
  }
  return low;
}

}  // namespace metro::test
