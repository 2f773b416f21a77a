// SPDX-License-Identifier: Apache-2.0
#include "metro/trace_generator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/rng.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"
#include "trace/expert_sampler.hpp"
#include "trace/popularity.hpp"
#include "trace/portable_math.hpp"

namespace metro {
namespace {

constexpr double kMaxSpread = 5;  // exp(6 * (5 + 5)), the largest factor, still fits a float
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::int64_t kMaxIds = std::int64_t{1} << 31;      // 4 GiB
constexpr std::int64_t kMaxWeights = std::int64_t{1} << 22;  // layers x experts: some seconds
/// Draws of them, one for each sequence: a minute.
constexpr std::int64_t kMaxDraws = std::int64_t{1} << 30;

double square(double x) { return x * x; }

void check(bool ok, std::string_view field, double value, const std::string& right) {
  if (ok) return;
  throw Error(ErrorCode::kUsage, fmt::format("{} is {}, must be {}", field, value, right));
}

/// exp(drift + whim) of each (token, group). One row serves all layers: what a token is about
/// shows in every layer, and each layer groups its experts its own way.
std::vector<float> group_factors(const RouterModel& model,
                                 const std::vector<std::int64_t>& sequence_lengths,
                                 std::int64_t num_tokens, Rng rng) {
  const auto groups = static_cast<std::size_t>(model.num_groups);
  std::vector<float> factors(static_cast<std::size_t>(num_tokens) * groups, 1.0F);
  if (model.drift_spread == 0 && model.whim_spread == 0) return factors;
  const double keep = model.drift_correlation;
  const double renew = std::sqrt(1 - keep * keep);
  std::vector<double> drift(groups);
  std::size_t at = 0;
  for (const std::int64_t length : sequence_lengths) {
    for (double& value : drift) value = portable_normal(rng);
    for (std::int64_t t = 0; t < length; ++t) {
      for (double& value : drift) {
        if (t > 0) value = keep * value + renew * portable_normal(rng);
        const double whim = model.whim_spread * portable_normal(rng);
        factors[at++] = static_cast<float>(portable_exp(model.drift_spread * value + whim));
      }
    }
  }
  return factors;
}

/// The load that each expert of a layer shall get, in any unit.
std::vector<double> loads_of(const RouterModel& model, int layer, Rng& rng) {
  const auto experts = static_cast<std::size_t>(model.num_experts);
  if (!model.popularity.empty()) {
    const auto begin = model.popularity.begin() + static_cast<std::ptrdiff_t>(experts) * layer;
    return {begin, begin + static_cast<std::ptrdiff_t>(experts)};
  }
  const double spread = model.popularity_spread_min +
                        rng.uniform() * (model.popularity_spread_max - model.popularity_spread_min);
  // Every n-th of n times as many, in order: a lognormal layer without freak experts. Which expert
  // is hot is up to the layer's shuffle.
  constexpr std::size_t kDrawsPerExpert = 16;
  std::vector<double> draws(experts * kDrawsPerExpert);
  for (double& draw : draws) draw = portable_normal(rng);
  std::ranges::sort(draws);
  std::vector<double> loads(experts);
  for (std::size_t i = 0; i < experts; ++i) {
    const double draw = draws[i * kDrawsPerExpert + kDrawsPerExpert / 2];
    loads[i] = portable_exp(spread * draw * (draw < 0 ? model.cold_stretch : 1));
  }
  return loads;
}

}  // namespace

void RouterModel::validate() const {
  check(num_experts >= 1 && num_experts <= kMaxExperts, "experts", num_experts,
        fmt::format("1..{}", kMaxExperts));
  check(topk >= 1 && topk <= num_experts, "topk", topk,
        fmt::format("1..{} (the experts)", num_experts));
  check(num_layers >= 1 && num_layers <= kMaxLayers, "layers", num_layers,
        fmt::format("1..{}", kMaxLayers));
  check(num_groups >= 1 && num_groups <= num_experts, "num_groups", num_groups,
        fmt::format("1..{} (the experts)", num_experts));
  const auto check_spread = [](std::string_view field, double value) {
    check(value >= 0 && value <= kMaxSpread, field, value, fmt::format("0..{}", kMaxSpread));
  };
  check_spread("popularity_spread_min", popularity_spread_min);
  check_spread("popularity_spread_max", popularity_spread_max);
  check(cold_stretch >= 1 && cold_stretch <= kMaxSpread, "cold_stretch", cold_stretch,
        fmt::format("1..{}", kMaxSpread));
  check_spread("topic_spread", topic_spread);
  check_spread("drift_spread", drift_spread);
  check_spread("whim_spread", whim_spread);
  check(drift_correlation >= 0 && drift_correlation < 1, "drift_correlation", drift_correlation,
        "0 or more and below 1");
  if (popularity.empty()) return;
  const std::size_t expected =
      static_cast<std::size_t>(num_layers) * static_cast<std::size_t>(num_experts);
  check(popularity.size() == expected, "popularity's size", static_cast<double>(popularity.size()),
        fmt::format("{} (layers x experts)", expected));
  constexpr double kLeast = 1e-30;
  constexpr double kMost = 1e30;
  for (const double load : popularity) {
    check(load >= kLeast && load <= kMost, "a popularity", load,
          fmt::format("{}..{}", kLeast, kMost));
  }
}

std::vector<std::int64_t> equal_sequences(std::int64_t num_tokens, std::int64_t sequence_length) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(num_tokens / sequence_length),
                                    sequence_length);
  if (num_tokens % sequence_length != 0) lengths.push_back(num_tokens % sequence_length);
  return lengths;
}

RoutingTrace generate_trace(const RouterModel& model,
                            const std::vector<std::int64_t>& sequence_lengths,
                            const std::string& phase, std::uint64_t seed) {
  model.validate();
  std::int64_t num_tokens = 0;
  for (const std::int64_t length : sequence_lengths) {
    check(length >= 1, "a sequence length", static_cast<double>(length), "at least 1");
    num_tokens += std::min(length, kMaxIds);  // a sum that cannot overflow
  }
  check(num_tokens >= 1, "tokens", 0, "at least 1");
  const std::int64_t per_token =
      std::max(std::int64_t{model.num_layers} * model.topk, std::int64_t{model.num_groups} * 2);
  if (num_tokens > kMaxIds / per_token) {
    throw Error(
        ErrorCode::kInfeasible,
        fmt::format("{} tokens x {} layers x {} are too many for memory, must be at most {} "
                    "tokens",
                    num_tokens, model.num_layers, model.topk, kMaxIds / per_token));
  }

  const std::int64_t num_weights = std::int64_t{model.num_layers} * model.num_experts;
  if (num_weights > kMaxWeights) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} layers x {} experts take too long to draw, must be at most {} in "
                            "all",
                            model.num_layers, model.num_experts, kMaxWeights));
  }
  const auto num_sequences = static_cast<std::int64_t>(sequence_lengths.size());
  if (num_sequences > kMaxDraws / num_weights) {
    throw Error(
        ErrorCode::kInfeasible,
        fmt::format("{} sequences x {} layers x {} experts take too long to draw, must be "
                    "at most {} sequences",
                    num_sequences, model.num_layers, model.num_experts, kMaxDraws / num_weights));
  }

  const auto groups = static_cast<std::size_t>(model.num_groups);
  const auto experts = static_cast<std::size_t>(model.num_experts);
  const auto topk = static_cast<std::size_t>(model.topk);
  const auto row = static_cast<std::size_t>(model.num_layers) * topk;
  const std::uint64_t stream = mix64(seed);
  const std::vector<float> factors =
      group_factors(model, sequence_lengths, num_tokens, Rng(stream));

  std::vector<std::uint16_t> ids(static_cast<std::size_t>(num_tokens) * row);
  const PopularityCurve curve(std::sqrt(square(model.topic_spread) + square(model.drift_spread) +
                                        square(model.whim_spread)));
  ExpertSampler sampler(model.num_experts, model.num_groups);
  std::vector<std::uint16_t> slot_to_expert(experts);
  std::vector<double> tilted(experts);
  std::vector<std::uint16_t> slots(topk);
  for (int layer = 0; layer < model.num_layers; ++layer) {
    Rng rng(mix64(stream + static_cast<std::uint64_t>(layer) + 1));
    std::iota(slot_to_expert.begin(), slot_to_expert.end(), std::uint16_t{0});
    rng.shuffle(slot_to_expert);
    const std::vector<double> weights = curve.weights(loads_of(model, layer, rng), model.topk);

    std::size_t token = 0;
    for (const std::int64_t length : sequence_lengths) {
      for (std::size_t slot = 0; slot < experts; ++slot) {
        const double topic = model.topic_spread * portable_normal(rng);
        tilted[slot] = weights[slot_to_expert[slot]] * portable_exp(topic);
      }
      sampler.set_weights(tilted);
      for (const std::size_t end = token + static_cast<std::size_t>(length); token < end; ++token) {
        sampler.sample(std::span(factors).subspan(token * groups, groups), rng, slots);
        std::uint16_t* out = &ids[token * row + static_cast<std::size_t>(layer) * topk];
        for (std::size_t k = 0; k < topk; ++k) out[k] = slot_to_expert[slots[k]];
      }
    }
  }

  TraceInfo info;
  info.num_experts = model.num_experts;
  info.model = "synthetic " + model.name;
  info.phase = phase;
  info.sequence_lengths = sequence_lengths;
  info.source = fmt::format("drawn by metro, seed {}; no model made it", seed);
  return make_trace(std::move(ids), num_tokens, model.num_layers, model.topk, std::move(info));
}

}  // namespace metro
