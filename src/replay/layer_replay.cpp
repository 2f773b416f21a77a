// SPDX-License-Identifier: Apache-2.0
#include "replay/layer_replay.hpp"

#include <algorithm>
#include <span>

#include "metro/batches.hpp"
#include "metro/compare.hpp"
#include "metro/placer.hpp"

namespace metro {

CellTotals& CellTotals::operator+=(const CellTotals& other) {
  active_experts += other.active_experts;
  assignments += other.assignments;
  no_replication += other.no_replication;
  bound_us += other.bound_us;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    policies[i].max_activated += other.policies[i].max_activated;
    policies[i].max_tokens += other.policies[i].max_tokens;
    policies[i].activated += other.policies[i].activated;
    policies[i].worse_than_none += other.policies[i].worse_than_none;
    policies[i].modelled_us += other.policies[i].modelled_us;
  }
  return *this;
}

Loads layer_loads(const Loads& loads, int layer) {
  const std::span<const double> load = loads.layer(layer);
  return {1, loads.num_experts, {load.begin(), load.end()}};
}

LayerReplay::Lane::Lane(const LayerPlacement& placement, const std::vector<MakeRouter>& policies,
                        const RouteOptions& options)
    : has_choice(placement.num_replicas() > placement.num_experts), counter(placement) {
  if (options.cost != nullptr) {
    clock.emplace(placement, options.cost);
    bound.emplace(placement, options.cost);
  }
  routers.reserve(policies.size());
  for (const MakeRouter& make : policies) routers.push_back(make(placement, options));
}

LayerReplay::LayerReplay(const RoutingTrace& trace, int layer, const Loads& loads,
                         const std::vector<GridPoint>& points,
                         const std::vector<MakeRouter>& policies, std::uint64_t seed,
                         const std::shared_ptr<const ExpertCost>& cost)
    : trace_(trace),
      layer_(layer),
      seed_(seed),
      seen_(static_cast<std::size_t>(trace.num_experts())) {
  const RouteOptions options{.seed = seed, .layer = layer, .cost = cost};
  const auto build = [&](std::string_view algorithm, int replicas, int ranks) {
    const PlacementRequest request{.num_replicas = replicas, .num_gpus = ranks};
    return place(loads, request, algorithm).layers.front();
  };
  const MakeRouter make_home = [](const LayerPlacement& placement, const RouteOptions& how) {
    return Router(placement, kHomePolicy, how);
  };
  std::map<std::pair<std::string_view, int>, std::size_t> baseline_at;
  for (std::size_t p = 0; p < points.size(); ++p) {
    const GridPoint& point = points[p];
    lanes_.emplace_back(build(point.algorithm, point.replicas, point.ep), policies, options);
    const auto [entry, is_new] =
        baseline_at.try_emplace({point.algorithm, point.gpus}, baselines_.size());
    if (is_new) {
      const int replicas = replicas_for(trace.num_experts(), 1.0, point.gpus);
      baselines_.emplace_back(build(point.algorithm, replicas, point.gpus), std::vector{make_home},
                              options);
    }
    baseline_of_.push_back(entry->second);
    shards_.push_back(point.gpus / point.ep);
    empty_.emplace_back(point.tokens.size(),
                        CellTotals{.policies = std::vector<PolicyTotals>(policies.size())});
    for (std::size_t i = 0; i < point.tokens.size(); ++i) cells_[point.tokens[i]].push_back({p, i});
  }
  baseline_max_.resize(baselines_.size());
}

GridTotals LayerReplay::run(int num_batches) {
  GridTotals totals = empty_;
  DecodeBatches batches(trace_, trace_.num_tokens() / 2, trace_.num_tokens());
  std::vector<std::int32_t> ids;
  for (const auto& [num_tokens, cells] : cells_) {
    ids.resize(static_cast<std::size_t>(num_tokens) * static_cast<std::size_t>(trace_.topk()));
    replica_ids_.resize(ids.size());
    for (int batch = 0; batch < num_batches; ++batch) {
      trace_.gather(batches.draw(num_tokens, seed_, static_cast<std::uint64_t>(batch)), layer_,
                    ids);
      replay({ids, num_tokens, trace_.topk()}, cells, totals);
    }
  }
  return totals;
}

void LayerReplay::replay(TopkView batch, const std::vector<Cell>& cells, GridTotals& totals) {
  std::fill(seen_.begin(), seen_.end(), false);
  std::int64_t assignments = 0;
  for (const std::int32_t expert : batch.ids) {
    const auto index = static_cast<std::size_t>(expert);  // of a masked id: beyond the end
    if (index >= seen_.size()) continue;
    seen_[index] = true;
    ++assignments;
  }
  const std::int64_t active_experts = std::count(seen_.begin(), seen_.end(), true);

  constexpr int kUnknown = -1;
  std::ranges::fill(baseline_max_, kUnknown);
  for (const auto& [point, size_index] : cells) {
    const std::size_t baseline = baseline_of_[point];
    if (baseline_max_[baseline] == kUnknown) {
      Lane& lane = baselines_[baseline];
      lane.routers.front().route(batch, replica_ids_);
      baseline_max_[baseline] = lane.counter.count(replica_ids_).max_activated;
    }
    const int none = baseline_max_[baseline];
    const int none_in_shards = none * shards_[point];
    CellTotals& cell = totals[point][size_index];
    cell.active_experts += active_experts;
    cell.assignments += assignments;
    cell.no_replication += none;
    Lane& lane = lanes_[point];
    if (lane.bound) cell.bound_us += lane.bound->of(batch);
    const RoutingMetrics* metrics = nullptr;
    double modelled_us = 0;
    for (std::size_t i = 0; i < lane.routers.size(); ++i) {
      if (lane.has_choice || metrics == nullptr) {  // without a choice all policies agree
        lane.routers[i].route(batch, replica_ids_);
        metrics = &lane.counter.count(replica_ids_);
        if (lane.clock) modelled_us = lane.clock->count(replica_ids_).slowest_us;
      }
      cell.policies[i].modelled_us += modelled_us;
      cell.policies[i].max_activated += metrics->max_activated;
      cell.policies[i].max_tokens += metrics->max_tokens;
      cell.policies[i].activated += metrics->activated_total;
      cell.policies[i].worse_than_none += metrics->max_activated > none_in_shards ? 1 : 0;
    }
  }
}

}  // namespace metro
