// SPDX-License-Identifier: Apache-2.0
// Traces of the profiles against published statistics of their models (docs/trace-generator.md).
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "metro/trace_generator.hpp"
#include "metro/trace_stats.hpp"

namespace metro {
namespace {

constexpr std::int64_t kTokens = 8192;
constexpr std::uint64_t kSeeds[] = {0, 1, 2};

/// `num_layers` of 0: all that the profile has.
TraceStats stats_of(const char* profile, std::uint64_t seed, int num_layers = 0) {
  RouterModel model = find_router_profile(profile)->model;
  if (num_layers > 0) model.num_layers = num_layers;
  const auto trace = generate_trace(model, equal_sequences(kTokens, 64), "decode", seed);
  return measure_trace(trace, seed);
}

double fraction_at(const TraceStats& stats, std::int64_t tokens) {
  for (const ActivatedFraction& row : stats.activated) {
    if (row.tokens == tokens) return row.fraction;
  }
  return std::nan("");
}

class EveryProfile : public testing::TestWithParam<const char*> {};

TEST_P(EveryProfile, TokensOfASequenceHangTogetherAsInRealTraces) {
  for (const std::uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    const TraceStats stats = stats_of(GetParam(), seed, 12);  // means over layers
    const double same = stats.shared_same_sequence;
    EXPECT_GE(same / stats.shared_different_sequence, 1.4);
    EXPECT_LE(same / stats.shared_different_sequence, 1.65);
    EXPECT_GE(stats.shared_at_lag[0].shared / same, 1.25);
    EXPECT_LE(stats.shared_at_lag[0].shared / same, 1.8);
    for (std::size_t i = 1; i < stats.shared_at_lag.size(); ++i) {
      EXPECT_LT(stats.shared_at_lag[i].shared, stats.shared_at_lag[i - 1].shared * 1.02);
    }
    // At the level of the sequence within a lag of 8 to 32.
    EXPECT_GE(stats.shared_at_lag[2].shared / same, 1.08) << "lag 4";
    EXPECT_LE(stats.shared_at_lag[5].shared / same, 1.03) << "lag 32";
  }
}

INSTANTIATE_TEST_SUITE_P(Profiles, EveryProfile,
                         testing::Values("deepseek-v3", "kimi-k2", "qwen3-235b", "qwen3-30b",
                                         "gpt-oss-120b", "gpt-oss-20b", "deepseek-v2-lite"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::erase(name, '-');
                           return name;
                         });

class DeepSeekFamily : public testing::TestWithParam<const char*> {};

TEST_P(DeepSeekFamily, LoadAndLiftAreAsPublished) {
  for (const std::uint64_t seed : kSeeds) {
    SCOPED_TRACE(seed);
    const TraceStats stats = stats_of(GetParam(), seed);
    const Spread load = spread(stats.max_over_mean);
    EXPECT_GE(load.min, 3.2);
    EXPECT_GE(load.median, 5);
    EXPECT_LE(load.median, 7.5);
    EXPECT_LE(load.max, 13.3);
    const Spread hottest = spread(stats.hottest_share);
    EXPECT_GE(hottest.min, 0.24);
    EXPECT_LE(hottest.min, 0.29);
    EXPECT_GE(hottest.median, 0.28);
    EXPECT_LE(hottest.median, 0.36);
    EXPECT_LE(hottest.max, 0.5);
    const double lift = spread(stats.coactivation_lift_p99).median;
    EXPECT_GE(lift, 4);
    EXPECT_LE(lift, 5.5);
  }
}

INSTANTIATE_TEST_SUITE_P(Profiles, DeepSeekFamily, testing::Values("deepseek-v3", "kimi-k2"),
                         [](const auto& param_info) {
                           std::string name = param_info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(Profiles, QwenGiniIsInThePublishedRange) {
  for (const std::uint64_t seed : kSeeds) {
    const Spread all = spread(stats_of("qwen3-30b", seed).gini);
    EXPECT_GE(all.min, 0.3);
    EXPECT_LE(all.max, 0.8);
    EXPECT_GE(all.max - all.min, 0.15);  // layers differ
  }
}

void expect_activated(const char* profile, const std::vector<double>& published) {
  for (const std::uint64_t seed : kSeeds) {
    const TraceStats stats = stats_of(profile, seed);
    std::int64_t tokens = 32;
    for (const double fraction : published) {
      EXPECT_NEAR(fraction_at(stats, tokens) / fraction, 1, 0.03) << profile << ", " << tokens;
      tokens *= 2;
    }
  }
}

TEST(Profiles, ActivatedExpertsAreAsPublished) {
  expect_activated("deepseek-v2-lite", {.88, .97, .99, 1.0});
  expect_activated("gpt-oss-20b", {.84, .91, .95, .98});
}

TEST(Profiles, UniformActivatesWhatChanceDoes) {
  for (const std::uint64_t seed : kSeeds) {
    const TraceStats stats = stats_of("uniform", seed, 12);
    for (const std::int64_t tokens : {8, 32, 128}) {
      const double chance = 1 - std::pow(1 - 8.0 / 256, static_cast<double>(tokens));
      EXPECT_NEAR(fraction_at(stats, tokens) / chance, 1, 0.005);
    }
    EXPECT_NEAR(stats.shared_same_sequence, 0.25, 0.005);
    EXPECT_NEAR(stats.shared_different_sequence, 0.25, 0.005);
    EXPECT_LT(spread(stats.gini).max, 0.05);
  }
}

TEST(Profiles, NamesAreUniqueAndModelsValid) {
  for (const RouterProfile& profile : router_profiles()) {
    EXPECT_NO_THROW(profile.model.validate()) << profile.name;
    EXPECT_EQ(find_router_profile(profile.name), &profile);
  }
  EXPECT_EQ(find_router_profile("no-such-model"), nullptr);
}

}  // namespace
}  // namespace metro
