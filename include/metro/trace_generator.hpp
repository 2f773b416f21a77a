// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metro/trace.hpp"

namespace metro {

/// A random model of a router: what synthetic traces are drawn from (docs/traces.md).
///
/// A token draws topk distinct experts, one after the other, with probability proportional to
///
///     weight[layer][expert] * exp(topic + drift + whim)
///
/// where the weights are such that the experts' loads come out as their popularity, topic is normal
/// per (sequence, layer, expert), and drift (first-order autoregressive along the sequence) and
/// whim (fresh for every token) are normal per group of co-activated experts.
struct RouterModel {
  std::string name;  ///< the trace's `model` is "synthetic " and this
  int num_experts = 0;
  int topk = 0;
  int num_layers = 0;
  int num_groups = 1;                ///< of co-activated experts; each layer groups its own way
  double popularity_spread_min = 0;  ///< log load has a standard deviation per layer, drawn
  double popularity_spread_max = 0;  ///< uniformly from these two (lognormal popularity)
  double cold_stretch = 1;  ///< log loads below the median are this much further from it (>= 1)
  double topic_spread = 0;  ///< standard deviations of the three terms above
  double drift_spread = 0;
  double drift_correlation = 0;  ///< of drift between adjacent tokens, below 1
  double whim_spread = 0;
  std::vector<double> popularity;  ///< [layers][experts] loads > 0, any unit; empty: drawn

  /// Throws Error{kUsage} naming the field, its value and its range.
  void validate() const;
};

/// A named model, with the published statistics it is calibrated to.
struct RouterProfile {
  std::string_view name;
  std::string_view summary;  ///< one line, for help texts
  RouterModel model;
};

/// `deepseek-v3`, `kimi-k2`, ..., and `uniform`.
std::span<const RouterProfile> router_profiles();

/// The profile of that name, or nullptr.
const RouterProfile* find_router_profile(std::string_view name);

/// Draws a trace of consecutive tokens of `sequence_lengths.size()` sequences.
///
///     auto trace = metro::generate_trace(metro::find_router_profile("deepseek-v3")->model,
///                                        std::vector<std::int64_t>(256, 64), "decode", 0);
///
/// The same model, lengths and seed give the same bytes on every machine with IEEE arithmetic.
/// Throws Error{kUsage} for an invalid model, and for lengths below 1 or none; Error{kInfeasible}
/// for more than 2^31 ids. About 0.7 us per token and layer of 8 experts.
RoutingTrace generate_trace(const RouterModel& model,
                            const std::vector<std::int64_t>& sequence_lengths,
                            const std::string& phase, std::uint64_t seed);

/// `num_tokens` in sequences of `sequence_length` tokens; the last one may be shorter.
std::vector<std::int64_t> equal_sequences(std::int64_t num_tokens, std::int64_t sequence_length);

/// Activated experts of the original and of a synthetic trace, as shares of all experts.
struct FitRow {
  std::int64_t tokens = 0;
  double original = 0;
  double synthetic = 0;
};

/// A model fitted to a trace, and how close its traces come.
struct RouterFit {
  RouterModel model;
  std::vector<FitRow> activated;  ///< at 32, 64, 128 and 256 tokens, as far as the trace has them
};

/// Fits all parameters to a trace: popularity from its loads, the spreads and the correlation by
/// matching moments over a few rounds of generating and measuring. Deterministic by seed; seconds.
///
/// `progress(done, total)` is told of each round. Throws Error{kInput} for a trace whose topk is
/// above its experts (ids repeat), Error{kInfeasible} as generate_trace.
RouterFit fit_router(const RoutingTrace& trace, std::uint64_t seed,
                     const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
