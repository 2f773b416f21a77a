// SPDX-License-Identifier: Apache-2.0
#include "metro/activated_map.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <span>

#include "metro/batches.hpp"
#include "metro/error.hpp"
#include "metro/metrics.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace metro {

ActivatedMap activated_map(const RoutingTrace& trace, const ActivatedMapSpec& spec) {
  if (spec.batches < 1) {
    throw Error(ErrorCode::kUsage, fmt::format("batches is {}, must be at least 1", spec.batches));
  }
  const std::int64_t half = trace.num_tokens() / 2;
  const int ranks = spec.ep == 0 ? spec.gpus : spec.ep;
  if (ranks < 1 || spec.gpus % ranks != 0) {
    throw Error(ErrorCode::kUsage,
                fmt::format("ep is {}, must divide the {} GPUs", spec.ep, spec.gpus));
  }
  const double shards = spec.gpus / ranks;  // NOLINT(bugprone-integer-division): it divides
  const PlacementRequest request{
      .num_replicas = replicas_for(trace.num_experts(), spec.replication, ranks),
      .num_gpus = ranks};
  const Placement placement = place(trace.loads(0, half), request, spec.algorithm);
  DecodeBatches batches(trace, half, trace.num_tokens());
  std::vector<std::int32_t> ids(static_cast<std::size_t>(spec.tokens) *
                                static_cast<std::size_t>(trace.topk()));
  std::vector<std::int32_t> replica_ids(ids.size());
  ActivatedMap map{spec, {}};
  for (int layer = 0; layer < trace.num_layers(); ++layer) {
    const LayerPlacement& of_layer = placement.layers[static_cast<std::size_t>(layer)];
    Router router(of_layer, spec.policy, {.seed = spec.seed, .layer = layer});
    MetricsCounter counter(of_layer);
    std::vector<double>& sums = map.activated.emplace_back(static_cast<std::size_t>(ranks), 0);
    for (int batch = 0; batch < spec.batches; ++batch) {
      trace.gather(batches.draw(spec.tokens, spec.seed, static_cast<std::uint64_t>(batch)), layer,
                   ids);
      router.route({ids, spec.tokens, trace.topk()}, replica_ids);
      const RoutingMetrics& metrics = counter.count(replica_ids);
      for (std::size_t gpu = 0; gpu < sums.size(); ++gpu) {
        sums[gpu] += metrics.activated_per_gpu[gpu];
      }
    }
    for (double& sum : sums) sum /= spec.batches * shards;
  }
  return map;
}

}  // namespace metro
