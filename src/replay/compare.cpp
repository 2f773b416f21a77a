// SPDX-License-Identifier: Apache-2.0
#include "metro/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string_view>
#include <utility>

#include "core/parallel.hpp"
#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "replay/layer_replay.hpp"

namespace metro {
namespace {

/// What the errors of a grid point start with.
std::string describe(const GridPoint& point) {
  if (point.ep == point.gpus) {
    return fmt::format("{} on {} GPUs with {} replicas", point.algorithm, point.gpus,
                       point.replicas);
  }
  return fmt::format("{} on {} GPUs in {} group{} with {} replicas", point.algorithm, point.gpus,
                     point.ep, point.ep == 1 ? "" : "s", point.replicas);
}

const CustomPolicy* find_custom(const CompareSpec& spec, std::string_view name) {
  const auto found = std::ranges::find(spec.custom, name, &CustomPolicy::name);
  return found == spec.custom.end() ? nullptr : &*found;
}

void check_batches_fit(const RoutingTrace& trace, const CompareSpec& spec) {
  const std::int64_t held = trace.num_tokens() - trace.num_tokens() / 2;
  for (const int tokens : spec.tokens) {
    for (const int gpus : spec.gpus) {
      const std::int64_t batch = std::int64_t{tokens} * (spec.tokens_are_per_gpu ? gpus : 1);
      if (batch > held) {
        throw Error(ErrorCode::kInfeasible,
                    fmt::format("a batch of {} tokens, but the second half of the trace has {}",
                                batch, held));
      }
    }
  }
}

/// Every (algorithm, GPUs, EP, replication) of the grid, each with its batch sizes.
std::vector<GridPoint> grid_points(const RoutingTrace& trace, const CompareSpec& spec) {
  std::vector<GridPoint> points;
  for (const std::string& algorithm : spec.algorithms) {
    for (const int gpus : spec.gpus) {
      for (const int ep : spec.ep.empty() ? std::vector{gpus} : spec.ep) {
        for (const double replication : spec.replication) {
          const int replicas = replicas_for(trace.num_experts(), replication, ep);
          points.push_back({algorithm, gpus, ep, replication, replicas, {}});
          for (const int tokens : spec.tokens) {
            points.back().tokens.push_back(tokens * (spec.tokens_are_per_gpu ? gpus : 1));
          }
        }
      }
    }
  }
  return points;
}

/// For each point of the grid, the one that does not shard and is otherwise the same: of the grid,
/// or added to `points`.
std::vector<std::size_t> unsharded_points(const RoutingTrace& trace,
                                          std::vector<GridPoint>& points) {
  std::vector<std::size_t> unsharded;
  for (std::size_t i = 0, asked = points.size(); i < asked; ++i) {
    GridPoint whole = points[i];
    whole.ep = whole.gpus;
    whole.replicas = replicas_for(trace.num_experts(), whole.replication, whole.ep);
    const auto found = std::ranges::find_if(points, [&](const GridPoint& point) {
      return point.algorithm == whole.algorithm && point.gpus == whole.gpus &&
             point.ep == whole.ep && point.replication == whole.replication;
    });
    unsharded.push_back(static_cast<std::size_t>(found - points.begin()));
    if (found == points.end()) points.push_back(std::move(whole));
  }
  return unsharded;
}

void check_placeable(const Loads& loads, const GridPoint& point, bool may_have_one_group) {
  try {
    if (point.ep == 1 && !may_have_one_group && point.replicas > loads.num_experts) {
      throw Error(ErrorCode::kInfeasible,
                  fmt::format("every GPU holds a part of every expert, so that replicas are of no "
                              "use: must be {} (replication 1)",
                              loads.num_experts));
    }
    place(layer_loads(loads, 0), {.num_replicas = point.replicas, .num_gpus = point.ep},
          point.algorithm);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", describe(point), error.what()));
  }
}

std::vector<std::string_view> replayed_policies(const CompareSpec& spec) {
  std::vector<std::string_view> names(spec.policies.begin(), spec.policies.end());
  for (const std::string_view always : {kEvenPolicy, kOptimalPolicy}) {
    if (std::ranges::find(names, always) == names.end()) names.push_back(always);
  }
  return names;
}

std::vector<MakeRouter> router_makers(const CompareSpec& spec,
                                      const std::vector<std::string_view>& names) {
  std::vector<MakeRouter> makers;
  for (const std::string_view name : names) {
    if (const CustomPolicy* custom = find_custom(spec, name)) {
      makers.push_back([custom](const LayerPlacement& placement, const RouteOptions& options) {
        return Router(custom->make(placement, options));
      });
    } else {
      makers.push_back([name](const LayerPlacement& placement, const RouteOptions& options) {
        return Router(placement, name, options);
      });
    }
  }
  return makers;
}

/// 1 where both are 0: a trace of masked tokens activates nothing under any policy.
double ratio(std::int64_t part, std::int64_t whole) {
  return part == whole ? 1.0 : static_cast<double>(part) / static_cast<double>(whole);
}

void add(GridTotals& totals, GridTotals more) {
  if (totals.empty()) {
    totals = std::move(more);
    return;
  }
  for (std::size_t p = 0; p < totals.size(); ++p) {
    for (std::size_t t = 0; t < totals[p].size(); ++t) totals[p][t] += more[p][t];
  }
}

/// The rows of one cell: the first `num_asked` of the replayed policies. `unsharded` is the same
/// cell without sharding.
void append_rows(const GridPoint& point, int tokens, const CellTotals& cell,
                 const CellTotals& unsharded, const std::vector<std::string_view>& names,
                 std::size_t num_asked, double samples, std::vector<CompareRow>& rows) {
  const int shards = point.gpus / point.ep;
  const auto mean_us = [samples](double sum) {
    return std::min(sum / samples, std::numeric_limits<double>::max());
  };
  const auto mean = [samples](std::int64_t sum) { return static_cast<double>(sum) / samples; };
  const auto activated_by = [&](std::string_view policy) {
    const auto at = std::ranges::find(names, policy) - names.begin();
    return cell.policies[static_cast<std::size_t>(at)].max_activated;
  };
  const std::int64_t even = activated_by(kEvenPolicy);
  const std::int64_t optimal = activated_by(kOptimalPolicy);
  for (std::size_t i = 0; i < num_asked; ++i) {
    const PolicyTotals& policy = cell.policies[i];
    rows.push_back({
        .algorithm = point.algorithm,
        .gpus = point.gpus,
        .ep = point.ep,
        .replication = point.replication,
        .replicas = point.replicas,
        .tokens = tokens,
        .policy = std::string(names[i]),
        .max_activated = mean(policy.max_activated) / shards,
        .max_tokens = mean(policy.max_tokens),
        .activated_total = mean(policy.activated) / shards,
        .active_experts = mean(cell.active_experts),
        .no_replication = mean(cell.no_replication),
        .token_imbalance = ratio(policy.max_tokens * point.ep, cell.assignments),
        .vs_even = ratio(policy.max_activated, even),
        .vs_no_replication = ratio(policy.max_activated, cell.no_replication * shards),
        .vs_optimal = ratio(policy.max_activated, optimal),
        .vs_ep = ratio(policy.max_activated, unsharded.policies[i].max_activated * shards),
        .worse_than_none = policy.worse_than_none,
        .modelled_us = mean_us(policy.modelled_us),
        .modelled_bound_us = mean_us(cell.bound_us),
    });
  }
}

}  // namespace

void CompareSpec::validate() const {
  const auto usage = [](const std::string& message) { throw Error(ErrorCode::kUsage, message); };
  if (batches < 1) usage(fmt::format("batches is {}, must be at least 1", batches));
  for (const int count : gpus) {
    if (count < 1) usage(fmt::format("gpus is {}, must be at least 1", count));
  }
  for (const int groups : ep) {
    if (groups < 1) usage(fmt::format("ep is {}, must be at least 1", groups));
    for (const int count : gpus) {
      if (count % groups != 0) {
        usage(fmt::format("ep is {}, must divide gpus, which is {}", groups, count));
      }
    }
  }
  for (const int count : tokens) {
    if (count < 1) usage(fmt::format("tokens is {}, must be at least 1", count));
  }
  for (const double slots : replication) {
    if (!(slots >= 1)) usage(fmt::format("replication is {}, must be at least 1", slots));
  }
  for (const CustomPolicy& own : custom) {
    const bool is_taken = find_policy(own.name) != nullptr ||
                          std::ranges::count(custom, own.name, &CustomPolicy::name) > 1;
    if (is_taken) usage(fmt::format("policy '{}' is defined twice", own.name));
  }
  for (const std::string& policy : policies) {
    if (find_custom(*this, policy) == nullptr) require_policy(policy);
  }
  for (const std::string& algorithm : algorithms) {
    if (find_placement_algorithm(algorithm) == nullptr) {
      usage(fmt::format("unknown placement algorithm '{}'", algorithm));
    }
  }
}

std::vector<CompareRow> compare(const RoutingTrace& trace, const CompareSpec& spec,
                                const std::function<void(std::size_t, std::size_t)>& progress) {
  spec.validate();
  check_batches_fit(trace, spec);
  std::vector<GridPoint> points = grid_points(trace, spec);
  const std::size_t num_asked = points.size();
  const std::vector<std::size_t> unsharded = unsharded_points(trace, points);
  const std::vector<std::string_view> names = replayed_policies(spec);
  const std::vector<MakeRouter> makers = router_makers(spec, names);
  const std::int64_t half = trace.num_tokens() / 2;
  const Loads loads = trace.loads(0, half);
  for (const GridPoint& point : points) {  // before hours of replay, not after
    check_placeable(loads, point, spec.ep.empty());
  }

  const auto num_layers = static_cast<std::size_t>(trace.num_layers());
  GridTotals totals;
  std::vector<GridTotals> waiting(num_layers);  // for a layer before them
  std::size_t added = 0;
  std::mutex mutex;
  std::size_t done = 0;
  for_each_parallel(num_layers, spec.num_threads, [&](std::size_t i) {
    const int layer = static_cast<int>(i);
    LayerReplay replay(trace, layer, layer_loads(loads, layer), points, makers, spec.seed,
                       spec.cost);
    GridTotals of_layer = replay.run(spec.batches);
    const std::scoped_lock lock(mutex);
    waiting[i] = std::move(of_layer);
    while (added < num_layers && !waiting[added].empty()) {
      add(totals, std::exchange(waiting[added++], {}));
    }
    if (progress) progress(++done, num_layers);
  });

  const double samples = static_cast<double>(num_layers) * spec.batches;
  std::vector<CompareRow> rows;
  for (std::size_t p = 0; p < num_asked; ++p) {
    for (std::size_t t = 0; t < points[p].tokens.size(); ++t) {
      append_rows(points[p], points[p].tokens[t], totals[p][t], totals[unsharded[p]][t], names,
                  spec.policies.size(), samples, rows);
    }
  }
  return rows;
}

}  // namespace metro
