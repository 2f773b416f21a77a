// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metro/metrics.hpp"
#include "metro/modelled_time.hpp"
#include "metro/router.hpp"
#include "metro/trace.hpp"
#include "routing/modelled_bound.hpp"

namespace metro {

/// One placement to replay, and the sizes of the batches that it meets.
struct GridPoint {
  std::string algorithm;
  int gpus = 0;
  int ep = 0;  ///< what the placement and the policies see as GPUs
  double replication = 0;
  int replicas = 0;
  std::vector<int> tokens;  ///< of the global batch
};

/// Sums over (batch, layer) pairs, of whole replicas, sharded or not. Times are added in the order
/// of the layers, so that sums have the same bits in every run.
struct PolicyTotals {
  std::int64_t max_activated = 0;
  std::int64_t max_tokens = 0;
  std::int64_t activated = 0;
  std::int64_t worse_than_none = 0;
  double modelled_us = 0;  ///< 0 without a cost
};

/// One grid point at one batch size.
struct CellTotals {
  std::int64_t active_experts = 0;
  std::int64_t assignments = 0;
  std::int64_t no_replication = 0;  ///< max activated without sharding
  std::vector<PolicyTotals> policies{};
  double bound_us = 0;  ///< of modelled_us

  CellTotals& operator+=(const CellTotals& other);
};

/// [grid point][its batch sizes]
using GridTotals = std::vector<std::vector<CellTotals>>;

/// Binds a policy to a placement. Called from several threads.
using MakeRouter = std::function<Router(const LayerPlacement&, const RouteOptions&)>;

/// Replays the batches of one layer over all grid points: each batch is gathered once, for all.
class LayerReplay {
 public:
  /// `cost` may be null: then nothing is priced.
  LayerReplay(const RoutingTrace& trace, int layer, const Loads& loads,
              const std::vector<GridPoint>& points, const std::vector<MakeRouter>& policies,
              std::uint64_t seed, const std::shared_ptr<const ExpertCost>& cost);

  GridTotals run(int num_batches);

 private:
  /// A placement with the routers that are raced on it.
  struct Lane {
    Lane(const LayerPlacement& placement, const std::vector<MakeRouter>& policies,
         const RouteOptions& options);
    bool has_choice;  // some expert has two replicas
    MetricsCounter counter;
    std::optional<TimeCounter> clock;  // where there is a cost
    std::optional<routing::ModelledBound> bound;
    std::vector<Router> routers;
  };
  struct Cell {
    std::size_t point;
    std::size_t size_index;  // in the point's `tokens`
  };

  void replay(TopkView batch, const std::vector<Cell>& cells, GridTotals& totals);

  const RoutingTrace& trace_;
  int layer_;
  std::uint64_t seed_;
  std::vector<Lane> lanes_;                 // [points]
  std::vector<Lane> baselines_;             // EPLB off, by (algorithm, GPUs)
  std::vector<std::size_t> baseline_of_;    // [points]
  std::vector<int> shards_;                 // [points] of an expert
  std::map<int, std::vector<Cell>> cells_;  // by batch size
  GridTotals empty_;
  std::vector<std::int32_t> replica_ids_;
  std::vector<int> baseline_max_;
  std::vector<bool> seen_;  // [experts]
};

/// The load of one layer alone.
Loads layer_loads(const Loads& loads, int layer);

}  // namespace metro
