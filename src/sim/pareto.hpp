// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace metro {

/// A serving point as planners weigh it.
struct ServingTradeOff {
  double tpot_ms = 0;                  ///< less is better
  double output_tokens_per_s_gpu = 0;  ///< more is better
};

/// Which points no other one beats: none has at most its TPOT and at least its throughput, and one
/// of the two better. Equal points stand or fall together. O(n log n).
std::vector<bool> pareto_frontier(const std::vector<ServingTradeOff>& points);

}  // namespace metro
