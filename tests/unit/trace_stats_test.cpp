// SPDX-License-Identifier: Apache-2.0
#include "metro/trace_stats.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "metro/io.hpp"
#include "trace/layer_stats.hpp"
#include "trace/overlap.hpp"
#include "trace_support.hpp"

namespace metro {
namespace {

using test::one_layer;

TEST(LayerStats, MaxOverMeanGiniAndHottestShareByHand) {
  const std::vector<double> load = {1, 0, 3, 4};
  EXPECT_DOUBLE_EQ(max_over_mean(load), 2);
  EXPECT_DOUBLE_EQ(gini(load), 14.0 / 32);  // sum of all |a - b| over 2 n^2 mean = 28 / 64
  EXPECT_DOUBLE_EQ(hottest_share(load, 1), 0.5);
  EXPECT_DOUBLE_EQ(hottest_share(load, 2), 7.0 / 8);
  EXPECT_DOUBLE_EQ(hottest_share(load, 9), 1);
}

TEST(LayerStats, ExtremesOfGini) {
  EXPECT_DOUBLE_EQ(gini(std::vector<double>{5, 5, 5}), 0);
  EXPECT_DOUBLE_EQ(gini(std::vector<double>{0, 0, 0, 8}), 0.75);
}

TEST(LayerStats, WithoutLoadIsNan) {
  const std::vector<double> none = {0, 0};
  EXPECT_TRUE(std::isnan(max_over_mean(none)));
  EXPECT_TRUE(std::isnan(gini(none)));
  EXPECT_TRUE(std::isnan(hottest_share(none, 1)));
}

TEST(LayerStats, LiftOfExpertsThatAlwaysMeet) {
  // 0 and 1 in one half of the tokens, 2 and 3 in the other: lift 2 within, 0 across.
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 50; ++i) ids.insert(ids.end(), {0, 1, 3, 2});
  EXPECT_DOUBLE_EQ(coactivation_lift_p99(ids, 2, 4, 10), 2);
  EXPECT_TRUE(std::isnan(coactivation_lift_p99(ids, 2, 4, 26)));  // pairs are expected 25 times
}

TEST(LayerStats, LiftCountsARepeatedExpertOnceAndNoMaskedOne) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 20; ++i) ids.insert(ids.end(), {0, 0, 1, -1});
  EXPECT_DOUBLE_EQ(coactivation_lift_p99(ids, 4, 2, 10), 1);
}

TEST(OverlapCounter, CountsDistinctSharedExperts) {
  OverlapCounter counter(8);
  const std::vector<std::int32_t> a = {1, 2, 3, -1};
  const std::vector<std::int32_t> b = {3, 3, 1, -1};
  EXPECT_EQ(counter.shared(a, b), 2);
  EXPECT_EQ(counter.shared(b, a), 2);
  EXPECT_EQ(counter.shared(a, std::vector<std::int32_t>{4, 5, 6, 7}), 0);
}

TEST(MeasureTrace, SharingInAndBetweenSequences) {
  // Within a sequence every token has the same experts; the two sequences share one of two.
  const auto trace = one_layer({{0, 1}, {0, 1}, {0, 1}, {0, 2}, {2, 0}}, 4, {3, 2});
  const TraceStats stats = measure_trace(trace, 0);
  EXPECT_DOUBLE_EQ(stats.shared_same_sequence, 2);
  EXPECT_DOUBLE_EQ(stats.shared_different_sequence, 1);
  EXPECT_EQ(stats.shared_at_lag[0].lag, 1);
  EXPECT_DOUBLE_EQ(stats.shared_at_lag[0].shared, 2);
  EXPECT_DOUBLE_EQ(stats.shared_at_lag[1].shared, 2);
  EXPECT_TRUE(std::isnan(stats.shared_at_lag[2].shared));  // no sequence of five tokens
}

TEST(MeasureTrace, ASingleTokenHasNoNeighbours) {
  const TraceStats stats = measure_trace(one_layer({{3, 1}}, 4, {1}), 0);
  EXPECT_TRUE(std::isnan(stats.shared_same_sequence));
  EXPECT_TRUE(std::isnan(stats.shared_different_sequence));
  ASSERT_EQ(stats.activated.size(), 1U);
  EXPECT_DOUBLE_EQ(stats.activated[0].fraction, 0.5);
}

TEST(MeasureActivated, TakesOneTokenOfEachSequenceBeforeASecond) {
  // Each sequence has its own expert: a batch of four tokens must touch all four sequences.
  const auto trace = one_layer({{0}, {0}, {1}, {1}, {2}, {2}, {3}, {3}}, 4, {2, 2, 2, 2});
  const auto rows = measure_activated(trace, {1, 2, 4, 8, 9}, 7);
  ASSERT_EQ(rows.size(), 4U);  // a batch of nine does not fit
  EXPECT_DOUBLE_EQ(rows[0].fraction, 0.25);
  EXPECT_DOUBLE_EQ(rows[1].fraction, 0.5);
  EXPECT_DOUBLE_EQ(rows[2].fraction, 1);
  EXPECT_DOUBLE_EQ(rows[3].fraction, 1);
}

TEST(MeasureTrace, SameSeedSameAnswerOtherSeedCloseBy) {
  const RoutingTrace trace = test::from_profile("deepseek-v2-lite", 4096, 3);
  const TraceStats first = measure_trace(trace, 1);
  const TraceStats again = measure_trace(trace, 1);
  const TraceStats other = measure_trace(trace, 2);
  EXPECT_EQ(first.shared_same_sequence, again.shared_same_sequence);
  EXPECT_EQ(first.activated[5].fraction, again.activated[5].fraction);
  EXPECT_NE(first.activated[5].fraction, other.activated[5].fraction);
  EXPECT_NEAR(first.activated[5].fraction, other.activated[5].fraction, 0.02);
  EXPECT_NEAR(first.shared_same_sequence, other.shared_same_sequence, 0.1);
}

/// The published figures of the two public traces.
struct Published {
  const char* file;
  Spread max_over_mean;
  Spread gini;
  std::vector<double> activated;  // at 32, 64, 128, 256 tokens
};

TEST(MeasureTrace, PublishedFiguresOfRealTraces) {
  const std::vector<Published> all = {
      {"dsv2lite-esft-intent-law.npy", {2.08, 2.68, 3.58}, {.20, .28, .35}, {.87, .96, .99, 1.0}},
      {"gptoss20b-mmlu-batch256x64.npy", {1.98, 2.64, 3.85}, {.25, .41, .51}, {.82, .90, .94, .97}},
  };
  const auto folder = std::filesystem::path(METRO_SOURCE_DIR) / "../shared/data/routing";
  if (!std::filesystem::exists(folder))
    GTEST_SKIP() << "no " << folder << " with the public traces";
  for (const Published& published : all) {
    SCOPED_TRACE(published.file);
    const RoutingTrace trace = io::read_trace(folder / published.file);
    const TraceStats stats = measure_trace(trace, 0);
    const auto expect_near = [](const Spread& got, const Spread& want) {
      EXPECT_NEAR(got.min, want.min, 0.006);
      EXPECT_NEAR(got.median, want.median, 0.006);
      EXPECT_NEAR(got.max, want.max, 0.006);
    };
    expect_near(spread(stats.max_over_mean), published.max_over_mean);
    expect_near(spread(stats.gini), published.gini);
    for (std::size_t i = 0; i < published.activated.size(); ++i) {
      EXPECT_EQ(stats.activated[5 + i].tokens, 32 << i);
      // Two digits of another draw of batches: 64 of ours vary by 0.003 (one standard deviation).
      EXPECT_NEAR(stats.activated[5 + i].fraction, published.activated[i], 0.02);
    }
  }
}

}  // namespace
}  // namespace metro
