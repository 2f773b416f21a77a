// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/trace_generator.hpp"
#include "metro/trace_stats.hpp"
#include "trace_support.hpp"

namespace metro {
namespace {

/// A trace with everything in it, of few layers and so quick to fit.
RoutingTrace original() {
  RouterModel model = find_router_profile("deepseek-v2-lite")->model;
  model.num_layers = 4;
  return generate_trace(model, equal_sequences(8192, 64), "decode", 21);
}

TEST(FitRouter, FindsTheStatisticsOfATraceAgain) {
  const RoutingTrace trace = original();
  const RouterFit fit = fit_router(trace, 0);
  const auto synthetic =
      generate_trace(fit.model, trace.info().sequence_lengths, "decode", 99);  // another seed
  const TraceStats want = measure_trace(trace, 0);
  const TraceStats got = measure_trace(synthetic, 0);
  EXPECT_NEAR(got.shared_same_sequence / want.shared_same_sequence, 1, 0.08);
  EXPECT_NEAR(got.shared_different_sequence / want.shared_different_sequence, 1, 0.06);
  EXPECT_NEAR(got.shared_at_lag[0].shared / want.shared_at_lag[0].shared, 1, 0.08);
  EXPECT_NEAR(spread(got.coactivation_lift_p99).median / spread(want.coactivation_lift_p99).median,
              1, 0.15);
  for (std::size_t layer = 0; layer < want.gini.size(); ++layer) {
    EXPECT_NEAR(got.gini[layer], want.gini[layer], 0.04);
  }
  for (std::size_t i = 5; i <= 8; ++i) {
    EXPECT_NEAR(got.activated[i].fraction / want.activated[i].fraction, 1, 0.02);
  }
}

TEST(FitRouter, IsDeterministicBySeed) {
  const RoutingTrace trace = original();
  const RouterFit first = fit_router(trace, 3);
  const RouterFit again = fit_router(trace, 3);
  EXPECT_EQ(first.model.popularity, again.model.popularity);
  EXPECT_EQ(first.model.topic_spread, again.model.topic_spread);
  EXPECT_EQ(first.model.whim_spread, again.model.whim_spread);
}

TEST(FitRouter, TellsItsProgressToTheEnd) {
  std::size_t last = 0;
  std::size_t total = 0;
  (void)fit_router(original(), 0, [&](std::size_t done, std::size_t all) {
    EXPECT_EQ(done, last + 1);
    last = done;
    total = all;
  });
  EXPECT_GT(total, 0U);
  EXPECT_EQ(last, total);
}

TEST(FitRouter, FitsTracesThatShowLittle) {
  // One token, one sequence, an expert never seen: nothing to match but the loads.
  const RouterFit fit = fit_router(test::one_layer({{2, 0}}, 4, {1}), 0);
  EXPECT_TRUE(fit.activated.empty());
  EXPECT_NO_THROW(fit.model.validate());
}

TEST(FitRouter, RefusesTokensWithMoreIdsThanExperts) {
  try {
    (void)fit_router(test::one_layer({{0, 1, 0}}, 2, {1}), 0);
    ADD_FAILURE() << "fitted 3 of 2 experts";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
  }
}

class RealTrace : public testing::TestWithParam<const char*> {};

TEST_P(RealTrace, SyntheticActivatesAsManyExpertsWithinThreePercent) {
  const auto path = std::filesystem::path(METRO_SOURCE_DIR) / "../shared/data" / GetParam();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const RouterFit fit = fit_router(io::read_trace(path), 0);
  ASSERT_EQ(fit.activated.size(), 4U);
  for (const FitRow& row : fit.activated) {
    EXPECT_NEAR(row.synthetic / row.original, 1, 0.03) << row.tokens << " tokens";
  }
}

/// Every second sequence of a trace, from `first` on.
RoutingTrace half_of(const RoutingTrace& trace, std::size_t first) {
  std::vector<std::uint16_t> ids;
  TraceInfo info = trace.info();
  info.sequence_lengths.clear();
  std::int64_t begin = 0;
  std::int64_t tokens = 0;
  for (std::size_t s = 0; s < trace.info().sequence_lengths.size(); ++s) {
    const std::int64_t length = trace.info().sequence_lengths[s];
    for (std::int64_t token = begin; s % 2 == first && token < begin + length; ++token) {
      for (int layer = 0; layer < trace.num_layers(); ++layer) {
        for (int k = 0; k < trace.topk(); ++k) {
          ids.push_back(static_cast<std::uint16_t>(trace.id(token, layer, k)));
        }
      }
    }
    begin += length;
    if (s % 2 != first) continue;
    info.sequence_lengths.push_back(length);
    tokens += length;
  }
  return make_trace(std::move(ids), tokens, trace.num_layers(), trace.topk(), std::move(info));
}

TEST_P(RealTrace, HoldsForSequencesItWasNotFittedTo) {
  const auto path = std::filesystem::path(METRO_SOURCE_DIR) / "../shared/data" / GetParam();
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path;
  const RoutingTrace trace = io::read_trace(path);
  const RoutingTrace unseen = half_of(trace, 1);
  const RouterFit fit = fit_router(half_of(trace, 0), 0);
  const auto synthetic = generate_trace(fit.model, unseen.info().sequence_lengths, "decode", 5);
  const auto want = measure_activated(unseen, {32, 64, 128, 256}, 1);
  const auto got = measure_activated(synthetic, {32, 64, 128, 256}, 1);
  ASSERT_EQ(want.size(), 4U);
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double ratio = got[i].fraction / want[i].fraction;
    EXPECT_NEAR(ratio, 1, 0.03) << want[i].tokens << " tokens";
    RecordProperty("vs_unseen_at_" + std::to_string(want[i].tokens), std::to_string(ratio));
  }
}

INSTANTIATE_TEST_SUITE_P(Shared, RealTrace,
                         testing::Values("routing/dsv2lite-esft-intent-law.npy",
                                         "routing/gptoss20b-mmlu-batch256x64.npy",
                                         "learned/learned-128e-top8-decode.npy",
                                         "learned/learned-256e-top8-decode.npy"),
                         [](const auto& param_info) {
                           std::string name;
                           for (const char c : std::string(param_info.param)) {
                             if (std::isalnum(static_cast<unsigned char>(c)) != 0) name += c;
                           }
                           return name;
                         });

}  // namespace
}  // namespace metro
