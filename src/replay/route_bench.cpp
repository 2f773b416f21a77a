// SPDX-License-Identifier: Apache-2.0
#include "replay/route_bench.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "metro/batches.hpp"
#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "replay/layer_replay.hpp"
#include "replay/route_timing.hpp"
#include "replay/synthetic_batches.hpp"

namespace metro {
namespace {

constexpr int kBatches = 32;

/// What the routers of one shape are timed on.
struct Workload {
  Loads loads;
  std::vector<TopkBatch> batches;
};

Workload synthetic(const RouteBenchRow& shape, std::uint64_t seed) {
  std::vector<double> loads = lognormal_loads(shape.experts, seed);
  std::vector<TopkBatch> batches = draw_batches(loads, shape.tokens, shape.topk, kBatches, seed);
  return {{1, shape.experts, std::move(loads)}, std::move(batches)};
}

/// As `compare` draws them, from the first layer.
Workload replayed(const RoutingTrace& trace, int tokens, std::uint64_t seed) {
  const std::int64_t half = trace.num_tokens() / 2;
  DecodeBatches source(trace, half, trace.num_tokens());
  Workload workload{layer_loads(trace.loads(0, half), 0), {}};
  for (int b = 0; b < kBatches; ++b) {
    TopkBatch batch{{}, tokens, trace.topk()};
    batch.ids.resize(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(trace.topk()));
    trace.gather(source.draw(tokens, seed, static_cast<std::uint64_t>(b)), 0, batch.ids);
    workload.batches.push_back(std::move(batch));
  }
  return workload;
}

std::vector<Contender> race(const RouteBenchRow& shape, const RouteBenchSpec& spec) {
  const Workload workload = spec.trace != nullptr ? replayed(*spec.trace, shape.tokens, spec.seed)
                                                  : synthetic(shape, spec.seed);
  const PlacementRequest request{
      .num_replicas = replicas_for(shape.experts, shape.replication, shape.gpus),
      .num_gpus = shape.gpus};
  const LayerPlacement placement = place(workload.loads, request, spec.algorithm).layers.front();
  std::vector<Contender> contenders;
  for (const std::string& name : spec.policies) {
    contenders.push_back({name, require_policy(name).make(placement, {.seed = spec.seed})});
  }
  if (spec.make_rival) contenders.push_back({spec.rival, spec.make_rival(placement)});
  time_routers(contenders, workload.batches, spec.rounds, spec.seed);
  return contenders;
}

std::vector<RouteBenchRow> shapes_of(const RouteBenchSpec& spec) {
  std::vector<RouteBenchRow> shapes;
  for (const int experts : spec.experts) {
    for (const int gpus : spec.gpus) {
      for (const double replication : spec.replication) {
        for (const int tokens : spec.tokens) {
          for (const int topk : spec.topk) {
            if (topk > experts) {
              throw Error(ErrorCode::kInfeasible,
                          fmt::format("topk is {}, but there are {} experts", topk, experts));
            }
            shapes.push_back({experts, gpus, replication, tokens, topk, ""});
          }
        }
      }
    }
  }
  return shapes;
}

}  // namespace

std::vector<RouteBenchRow> bench_routes(
    RouteBenchSpec spec, const std::function<void(std::size_t, std::size_t)>& progress) {
  if (std::ranges::find(spec.policies, kHashPolicy) == spec.policies.end()) {
    spec.policies.emplace_back(kHashPolicy);
  }
  if (spec.trace != nullptr) {
    spec.experts = {spec.trace->num_experts()};
    spec.topk = {spec.trace->topk()};
  }
  const std::vector<RouteBenchRow> shapes = shapes_of(spec);
  std::vector<RouteBenchRow> rows;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::vector<Contender> contenders = race(shapes[i], spec);
    const double hash_ns = std::ranges::find(contenders, kHashPolicy, &Contender::name)->median_ns;
    for (const Contender& contender : contenders) {
      RouteBenchRow& row = rows.emplace_back(shapes[i]);
      row.policy = contender.name;
      row.median_ns = contender.median_ns;
      row.vs_hash = contender.median_ns / hash_ns;
    }
    if (progress) progress(i + 1, shapes.size());
  }
  return rows;
}

}  // namespace metro
