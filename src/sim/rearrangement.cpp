// SPDX-License-Identifier: Apache-2.0
#include "sim/rearrangement.hpp"

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

namespace metro::sim {
namespace {

/// Adds to each GPU's count the experts that it holds after, and does not before.
void count_fetched(const LayerPlacement& before, const LayerPlacement& after,
                   std::vector<double>& fetched) {
  std::set<std::pair<std::int32_t, std::int32_t>> held;  // (GPU, expert)
  for (std::size_t slot = 0; slot < before.replica_to_gpu.size(); ++slot) {
    held.emplace(before.replica_to_gpu[slot], before.replica_to_expert[slot]);
  }
  for (std::size_t slot = 0; slot < after.replica_to_gpu.size(); ++slot) {
    const auto gpu = after.replica_to_gpu[slot];
    if (held.emplace(gpu, after.replica_to_expert[slot]).second) {
      fetched[static_cast<std::size_t>(gpu)] += 1;
    }
  }
}

}  // namespace

double fetched_slots(const Placement& before, const Placement& after, int num_layers) {
  std::vector<double> fetched(static_cast<std::size_t>(after.num_gpus), 0.0);
  const auto width = static_cast<int>(after.layers.size());
  for (int layer = 0; layer < num_layers; ++layer) {
    const auto at = static_cast<std::size_t>(layer % width);
    count_fetched(before.layers[at], after.layers[at], fetched);
  }
  return *std::ranges::max_element(fetched);
}

double typical_fetched_slots(const RoutingPool& pool, const PlacementRequest& request,
                             std::string_view algorithm, int num_layers) {
  const RoutingTrace& trace = pool.decode->trace();
  const std::int64_t half = trace.num_tokens() / 2;
  const Placement before = place(trace.loads(0, half / 2), request, algorithm);
  const Placement after = place(trace.loads(half / 2, half), request, algorithm);
  return fetched_slots(before, after, num_layers);
}

}  // namespace metro::sim
