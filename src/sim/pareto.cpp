// SPDX-License-Identifier: Apache-2.0
#include "sim/pareto.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

namespace metro {

std::vector<bool> pareto_frontier(const std::vector<ServingTradeOff>& points) {
  std::vector<std::size_t> order(points.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&points](std::size_t a, std::size_t b) {
    if (points[a].tpot_ms != points[b].tpot_ms) return points[a].tpot_ms < points[b].tpot_ms;
    return points[a].output_tokens_per_s_gpu > points[b].output_tokens_per_s_gpu;
  });
  std::vector<bool> best(points.size(), false);
  double most = -std::numeric_limits<double>::infinity();
  double tpot = 0;  // where `most` was reached
  for (const std::size_t i : order) {
    const double throughput = points[i].output_tokens_per_s_gpu;
    best[i] = throughput > most || (throughput == most && points[i].tpot_ms == tpot);
    if (throughput > most) {
      most = throughput;
      tpot = points[i].tpot_ms;
    }
  }
  return best;
}

}  // namespace metro
