// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "metro/placement.hpp"
#include "metro/policy_names.hpp"
#include "metro/router.hpp"
#include "metro/trace.hpp"

namespace metro {

/// A grid of shapes on which routers are timed: every combination of the lists.
struct RouteBenchSpec {
  std::vector<int> experts{256};
  std::vector<int> gpus{16};
  std::vector<double> replication{1.5};
  std::vector<int> tokens{256};
  std::vector<int> topk{8};
  std::vector<std::string> policies;
  std::string algorithm{kEplbAlgorithm};
  const RoutingTrace* trace = nullptr;  ///< whose first layer's batches; null: synthetic ones
  int rounds = 100;
  std::uint64_t seed = 0;
  /// Another router to race, and its name; empty: none.
  std::string rival;
  std::function<std::unique_ptr<RoutingPolicy>(const LayerPlacement&)> make_rival = {};
};

struct RouteBenchRow {
  int experts = 0;
  int gpus = 0;
  double replication = 0;
  int tokens = 0;
  int topk = 0;
  std::string policy;
  double median_ns = 0;  ///< of one call, from top-k ids to replica ids
  double vs_hash = 0;    ///< over that of `hash`, which is always timed
};

/// Times one call of each policy on the CPU. Experts and top-k of a trace are its own. Throws
/// Error{kInfeasible} for a shape that cannot be. `progress(done, total)` counts shapes.
std::vector<RouteBenchRow> bench_routes(
    RouteBenchSpec spec, const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
