// SPDX-License-Identifier: Apache-2.0
// What holds for every synthetic trace and every statistic, over random models.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "metro/trace_generator.hpp"
#include "metro/trace_stats.hpp"

namespace metro {
namespace {

double any_spread(double most) { return *rc::gen::inRange(0, 1001) * most / 1000; }

RouterModel any_model() {
  RouterModel model;
  model.name = "any";
  model.num_experts = *rc::gen::inRange(1, 70);
  model.topk = *rc::gen::inRange(1, std::min(model.num_experts, 12) + 1);
  model.num_layers = *rc::gen::inRange(1, 4);
  model.num_groups = *rc::gen::inRange(1, model.num_experts + 1);
  model.popularity_spread_min = any_spread(5);
  model.popularity_spread_max = any_spread(5);
  model.cold_stretch = 1 + any_spread(4);
  model.topic_spread = any_spread(5);
  model.drift_spread = any_spread(5);
  model.drift_correlation = any_spread(0.999);
  model.whim_spread = any_spread(5);
  return model;
}

std::vector<std::int64_t> any_lengths() {
  const auto lengths =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 40)));
  return {lengths.begin(), lengths.end()};
}

RC_GTEST_PROP(TraceProperty, EveryTokenHasDistinctExpertsInRange, ()) {
  const RouterModel model = any_model();
  const auto trace =
      generate_trace(model, any_lengths(), "decode", *rc::gen::arbitrary<std::uint64_t>());
  RC_ASSERT(trace.topk() == model.topk);
  for (std::int64_t token = 0; token < trace.num_tokens(); ++token) {
    for (int layer = 0; layer < trace.num_layers(); ++layer) {
      std::set<std::int32_t> ids;
      for (int k = 0; k < trace.topk(); ++k) ids.insert(trace.id(token, layer, k));
      RC_ASSERT(static_cast<int>(ids.size()) == model.topk);
      RC_ASSERT(*ids.begin() >= 0);
      RC_ASSERT(*ids.rbegin() < model.num_experts);
    }
  }
}

RC_GTEST_PROP(TraceProperty, ASeedGivesOneTrace, ()) {
  const RouterModel model = any_model();
  const auto lengths = any_lengths();
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  const auto a = generate_trace(model, lengths, "decode", seed);
  const auto b = generate_trace(model, lengths, "decode", seed);
  for (std::int64_t token = 0; token < a.num_tokens(); ++token) {
    for (int layer = 0; layer < a.num_layers(); ++layer) {
      for (int k = 0; k < a.topk(); ++k) RC_ASSERT(a.id(token, layer, k) == b.id(token, layer, k));
    }
  }
}

RC_GTEST_PROP(TraceProperty, StatisticsStayInTheirBounds, ()) {
  const RouterModel model = any_model();
  const auto lengths = any_lengths();
  const auto trace = generate_trace(model, lengths, "decode", *rc::gen::arbitrary<std::uint64_t>());
  const TraceStats stats = measure_trace(trace, 0);
  const double experts = model.num_experts;
  constexpr double kEpsilon = 1e-9;
  for (std::size_t layer = 0; layer < stats.gini.size(); ++layer) {
    // No expert can have more than one place of each token.
    RC_ASSERT(stats.max_over_mean[layer] >= 1 - kEpsilon);
    RC_ASSERT(stats.max_over_mean[layer] <= experts / model.topk + kEpsilon);
    RC_ASSERT(stats.gini[layer] >= -kEpsilon);
    RC_ASSERT(stats.gini[layer] <= 1 - model.topk / experts + kEpsilon);
    RC_ASSERT(stats.hottest_share[layer] <= 1 + kEpsilon);
    RC_ASSERT(stats.hottest_share[layer] * experts >=
              std::max(1, model.num_experts / 8) - kEpsilon);
  }
  for (const ActivatedFraction& row : stats.activated) {
    RC_ASSERT(row.tokens <= trace.num_tokens());
    RC_ASSERT(row.fraction * experts >= model.topk - kEpsilon);
    RC_ASSERT(row.fraction * experts <=
              std::min(experts, static_cast<double>(row.tokens * model.topk)) + kEpsilon);
  }
  const bool has_pairs = *std::ranges::max_element(lengths) > 1;
  RC_ASSERT(std::isnan(stats.shared_same_sequence) == !has_pairs);
  RC_ASSERT(std::isnan(stats.shared_different_sequence) == (lengths.size() == 1));
  if (has_pairs) {
    RC_ASSERT(stats.shared_same_sequence >= 2 * model.topk - experts - kEpsilon);
    RC_ASSERT(stats.shared_same_sequence <= model.topk + kEpsilon);
  }
}

RC_GTEST_PROP(TraceProperty, EqualSequencesAddUp, ()) {
  const std::int64_t tokens = *rc::gen::inRange(1, 5000);
  const std::int64_t length = *rc::gen::inRange(1, 600);
  std::int64_t sum = 0;
  for (const std::int64_t value : equal_sequences(tokens, length)) {
    RC_ASSERT(value >= 1);
    RC_ASSERT(value <= length);
    sum += value;
  }
  RC_ASSERT(sum == tokens);
}

}  // namespace
}  // namespace metro
