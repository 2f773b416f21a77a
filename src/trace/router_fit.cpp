// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "core/rng.hpp"
#include "metro/error.hpp"
#include "metro/trace_generator.hpp"
#include "metro/trace_stats.hpp"

namespace metro {
namespace {

constexpr int kSpreadRounds = 12;
constexpr int kPopularityRounds = 4;
constexpr int kRoundLayers = 8;  // of a synthetic trace in a round; the spreads are of all layers
constexpr std::int64_t kDraftTokens = 32768;
constexpr double kMaxSpread = 4;
const std::vector<std::int64_t> kBatchSizes = {32, 64, 128, 256};

/// What the spreads are matched to, as logarithms: a spread's square moves its moment about
/// linearly. NaN where the trace does not show the moment.
struct Moments {
  double topic;  ///< experts shared in a sequence over those shared between sequences
  double drift;  ///< shared by adjacent tokens over any two tokens of a sequence
  double whim;   ///< co-activation lift
};

Moments moments_of(const TraceStats& stats) {
  return {std::log(stats.shared_same_sequence / stats.shared_different_sequence),
          std::log(stats.shared_at_lag.front().shared / stats.shared_same_sequence),
          std::log(spread(stats.coactivation_lift_p99).median)};
}

/// Drift's correlation from how fast sharing falls to the level of the sequence: the excess at lag
/// 4 over that at lag 1 is about the correlation cubed.
double correlation_of(const TraceStats& stats) {
  constexpr double kTypical = 0.85;
  const auto excess = [&](std::size_t lag) {
    return std::log(stats.shared_at_lag[lag].shared / stats.shared_same_sequence);
  };
  const double ratio = excess(2) / excess(0);
  return ratio > 0 ? std::clamp(std::cbrt(ratio), 0.3, 0.95) : kTypical;
}

/// The mean over sequences of each sequence's loads, [layers][experts]: decode batches draw
/// sequences, not tokens. An expert that is never seen gets half a token's worth.
std::vector<double> loads_by_sequence(const RoutingTrace& trace) {
  const auto& lengths = trace.info().sequence_lengths;
  std::vector<double> popularity(static_cast<std::size_t>(trace.num_layers()) *
                                 static_cast<std::size_t>(trace.num_experts()));
  std::int64_t begin = 0;
  for (const std::int64_t length : lengths) {
    const Loads loads = trace.loads(begin, begin + length);
    for (std::size_t i = 0; i < popularity.size(); ++i) {
      popularity[i] += loads.tokens[i] / static_cast<double>(length);
    }
    begin += length;
  }
  const double floor =
      0.5 * static_cast<double>(lengths.size()) / static_cast<double>(trace.num_tokens());
  for (double& load : popularity) load = std::max(load, floor);
  return popularity;
}

/// Every n-th sequence, so that drafts of long traces stay cheap.
std::vector<std::int64_t> draft_lengths(const RoutingTrace& trace) {
  const auto& all = trace.info().sequence_lengths;
  const auto step = static_cast<std::size_t>(1 + trace.num_tokens() / (kDraftTokens + 1));
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < all.size(); i += step) {
    lengths.push_back(std::min(all[i], kDraftTokens));
  }
  return lengths;
}

/// `model` cut to a few of its layers, spread evenly.
RouterModel few_layers(const RouterModel& model) {
  RouterModel cut = model;
  cut.num_layers = std::min(model.num_layers, kRoundLayers);
  cut.popularity.clear();
  const std::span<const double> all(model.popularity);
  const auto experts = static_cast<std::size_t>(model.num_experts);
  for (int i = 0; i < cut.num_layers; ++i) {
    const auto layer = static_cast<std::size_t>(i * model.num_layers / cut.num_layers);
    const auto loads = all.subspan(layer * experts, experts);
    cut.popularity.insert(cut.popularity.end(), loads.begin(), loads.end());
  }
  return cut;
}

/// Moves the square of a spread by what its moment lacks.
void adjust(double& spread_value, double lacking) {
  constexpr double kGain = 1.2;  // competition for topk places makes moments lag behind
  if (std::isnan(lacking) || std::isinf(lacking)) return;
  const double square = spread_value * spread_value + kGain * lacking;
  spread_value = std::clamp(std::sqrt(std::max(0.0, square)), 0.0, kMaxSpread);
}

}  // namespace

RouterFit fit_router(const RoutingTrace& trace, std::uint64_t seed,
                     const std::function<void(std::size_t, std::size_t)>& progress) {
  if (trace.topk() > trace.num_experts()) {
    throw Error(ErrorCode::kInput, fmt::format("a token has {} experts of {}, cannot be distinct",
                                               trace.topk(), trace.num_experts()));
  }
  const TraceStats stats = measure_trace(trace, seed);
  const Moments wanted = moments_of(stats);

  RouterFit fit;
  RouterModel& model = fit.model;
  model.name = trace.info().model;
  model.num_experts = trace.num_experts();
  model.topk = trace.topk();
  model.num_layers = trace.num_layers();
  model.num_groups = std::clamp(trace.num_experts() / 4, 1, 32);
  const std::vector<double> wanted_loads = loads_by_sequence(trace);
  model.popularity = wanted_loads;
  model.drift_correlation = correlation_of(stats);

  const std::vector<std::int64_t> lengths = draft_lengths(trace);
  std::size_t done = 0;
  const auto tell = [&] {
    if (progress) progress(++done, kSpreadRounds + kPopularityRounds);
  };
  const std::string& phase = trace.info().phase;
  for (int round = 0; round < kSpreadRounds; ++round) {
    const RoutingTrace draft = generate_trace(few_layers(model), lengths, phase, seed);
    const Moments got = moments_of(measure_trace(draft, seed));
    adjust(model.topic_spread, wanted.topic - got.topic);
    adjust(model.drift_spread, wanted.drift - got.drift);
    adjust(model.whim_spread, wanted.whim - got.whim);
    tell();
  }
  // Strong groups compete for the topk places, which the popularity curve does not know of.
  for (int round = 0; round < kPopularityRounds; ++round) {
    const auto draft_seed = mix64(seed + static_cast<std::uint64_t>(round));
    const std::vector<double> got =
        loads_by_sequence(generate_trace(model, lengths, phase, draft_seed));
    for (std::size_t i = 0; i < got.size(); ++i) {
      model.popularity[i] *= std::sqrt(wanted_loads[i] / got[i]);
    }
    tell();
  }

  const RoutingTrace synthetic = generate_trace(model, trace.info().sequence_lengths, phase, seed);
  const auto original_rows = measure_activated(trace, kBatchSizes, seed);
  const auto synthetic_rows = measure_activated(synthetic, kBatchSizes, seed);
  for (std::size_t i = 0; i < original_rows.size(); ++i) {
    fit.activated.push_back(
        {original_rows[i].tokens, original_rows[i].fraction, synthetic_rows[i].fraction});
  }
  return fit;
}

}  // namespace metro
