// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "metro/trace.hpp"

namespace metro {

/// Minimum, median and maximum; NaN when there was nothing to summarise.
struct Spread {
  double min = 0;
  double median = 0;
  double max = 0;
};

/// Spread of the values that are not NaN.
Spread spread(std::vector<double> values);

/// Share of all experts that a batch of `tokens` tokens activates, mean over batches and layers.
struct ActivatedFraction {
  std::int64_t tokens = 0;
  int batches = 0;  ///< how many were drawn
  double fraction = 0;
};

/// Mean number of experts shared by two tokens of a sequence that are `lag` apart.
struct LagOverlap {
  int lag = 0;
  double shared = 0;
};

/// How the routing of a trace is skewed, and how it hangs together.
///
/// A layer without tokens, or a statistic without samples (no sequence is long enough, a single
/// sequence, ...), is NaN.
struct TraceStats {
  std::vector<double> max_over_mean;  ///< [layers] largest expert load over the mean load
  std::vector<double> gini;           ///< [layers] 0 = equal loads
  std::vector<double> hottest_share;  ///< [layers] of the load, by the max(1, E/8) hottest experts
  std::vector<double> coactivation_lift_p99;  ///< [layers] 99th percentile over pairs of experts
  std::vector<ActivatedFraction> activated;   ///< at 1, 2, 4, ... tokens, up to 4,096
  double shared_different_sequence = 0;       ///< mean experts shared by tokens of two sequences
  double shared_same_sequence = 0;            ///< by two random tokens of one sequence
  std::vector<LagOverlap> shared_at_lag;      ///< lags 1, 2, 4, 8, 16, 32
};

/// Measures a trace; deterministic by seed.
///
///     metro::TraceStats stats = metro::measure_trace(trace, 0);
///
/// Loads count every token. The rest is sampled at bounded cost: 16K tokens x 58 layers x 8 take a
/// fraction of a second. Lift is P(both) / (P(a) P(b)) over pairs that would meet at least
/// 10 times by chance; NaN above 2,048 experts.
TraceStats measure_trace(const RoutingTrace& trace, std::uint64_t seed);

/// Only the activated fractions at the given batch sizes; sizes above the trace's tokens are left
/// out. Batches as in `metro compare`: one random token of each sequence, sequences in random
/// order, round after round, all layers of a token together.
std::vector<ActivatedFraction> measure_activated(const RoutingTrace& trace,
                                                 const std::vector<std::int64_t>& batch_sizes,
                                                 std::uint64_t seed);

}  // namespace metro
