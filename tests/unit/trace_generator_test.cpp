// SPDX-License-Identifier: Apache-2.0
#include "metro/trace_generator.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "core/rng.hpp"
#include "metro/error.hpp"
#include "metro/trace_stats.hpp"
#include "trace/expert_sampler.hpp"
#include "trace/popularity.hpp"
#include "trace/portable_math.hpp"
#include "trace_support.hpp"

namespace metro {
namespace {

using test::all_ids;
using test::from_profile;

RouterModel plain_model(int experts, int topk) {
  RouterModel model;
  model.name = "plain";
  model.num_experts = experts;
  model.topk = topk;
  model.num_layers = 1;
  return model;
}

TEST(PortableMath, ExpAgreesWithLibm) {
  for (double x = -60; x <= 60; x += 0.37) EXPECT_NEAR(portable_exp(x) / std::exp(x), 1, 1e-9);
}

TEST(PortableMath, NormalHasMeanZeroVarianceOneAndTails) {
  Rng rng(5);
  double sum = 0;
  double squares = 0;
  int beyond_two = 0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const double z = portable_normal(rng);
    sum += z;
    squares += z * z;
    beyond_two += std::abs(z) > 2 ? 1 : 0;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.01);
  EXPECT_NEAR(squares / kDraws, 1, 0.015);
  EXPECT_NEAR(beyond_two / double{kDraws}, 0.0455, 0.003);
}

TEST(ExpertSampler, FirstDrawFollowsWeightTimesFactor) {
  const std::vector<double> weights = {1, 2, 3, 4};
  const std::vector<float> factors = {2, 1};  // of {0, 1} and {2, 3}
  ExpertSampler sampler(4, 2);
  sampler.set_weights(weights);
  Rng rng(11);
  std::vector<double> counts(4, 0);
  std::vector<std::uint16_t> slots(1);
  constexpr int kDraws = 130000;
  for (int i = 0; i < kDraws; ++i) {
    sampler.sample(factors, rng, slots);
    counts[slots[0]] += 1;
  }
  const std::vector<double> expected = {2, 4, 3, 4};  // of 13
  for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(counts[i] * 13 / kDraws, expected[i], 0.06);
}

TEST(ExpertSampler, SecondDrawFollowsTheWeightsThatAreLeft) {
  // One expert outweighs all: the pass over the rest decides nearly every second draw.
  const std::vector<double> weights = {1e9, 1, 3};
  ExpertSampler sampler(3, 1);
  sampler.set_weights(weights);
  Rng rng(12);
  int ones = 0;
  std::vector<std::uint16_t> slots(2);
  constexpr int kDraws = 40000;
  for (int i = 0; i < kDraws; ++i) {
    sampler.sample(std::vector<float>{1}, rng, slots);
    EXPECT_EQ(slots[0], 0);
    ones += slots[1] == 1 ? 1 : 0;
  }
  EXPECT_NEAR(ones / double{kDraws}, 0.25, 0.01);
}

TEST(PopularityCurve, LoadsComeOutAsAskedUnderStrongTilts) {
  RouterModel model = plain_model(64, 6);
  model.num_groups = 16;
  model.topic_spread = 0.8;
  model.whim_spread = 0.8;
  for (int e = 0; e < 64; ++e) model.popularity.push_back(1.0 + e % 8);
  const auto trace = generate_trace(model, std::vector<std::int64_t>(8192, 4), "decode", 1);
  const Loads loads = trace.loads(0, trace.num_tokens());
  const double per_unit = 8192 * 4 * 6 / (8 * 36.0);
  std::vector<double> by_popularity(8, 0);
  for (std::size_t e = 0; e < 64; ++e) by_popularity[e % 8] += loads.tokens[e] / 8;
  for (std::size_t i = 0; i < 8; ++i) {
    const double wanted = per_unit * (1.0 + static_cast<double>(i));
    EXPECT_NEAR(by_popularity[i] / wanted, 1, 0.06) << "popularity " << i + 1;
  }
}

TEST(PopularityCurve, AnExpertCannotBeChosenMoreThanOnceAToken) {
  const PopularityCurve curve(0);
  const auto weights = curve.weights(std::vector<double>{1000, 1, 1, 1}, 2);
  // Nearly always the first; the other place is shared alike.
  EXPECT_GT(weights[0], 5);
  EXPECT_NEAR(1 - std::exp(-weights[1]), 1.005 / 3, 1e-3);
}

TEST(GenerateTrace, SameSeedSameBytesOtherSeedOthers) {
  const auto first = all_ids(from_profile("qwen3-30b", 512, 4));
  EXPECT_EQ(first, all_ids(from_profile("qwen3-30b", 512, 4)));
  EXPECT_NE(first, all_ids(from_profile("qwen3-30b", 512, 5)));
}

TEST(GenerateTrace, BytesStayAsTheyAre) {
  // Changes only when the generator is meant to change: say so in CHANGELOG.md.
  std::uint64_t hash = 0;
  for (const std::int32_t id : all_ids(from_profile("deepseek-v3", 256, 0))) {
    hash = mix64(hash ^ static_cast<std::uint64_t>(id));
  }
  EXPECT_EQ(hash, 13817821520727137717ULL);
}

TEST(GenerateTrace, NotesWhatItIs) {
  const auto trace = generate_trace(find_router_profile("gpt-oss-20b")->model,
                                    equal_sequences(100, 48), "prefill", 9);
  EXPECT_EQ(trace.info().model, "synthetic gpt-oss-20b");
  EXPECT_EQ(trace.info().phase, "prefill");
  EXPECT_EQ(trace.info().sequence_lengths, (std::vector<std::int64_t>{48, 48, 4}));
  EXPECT_EQ(trace.num_experts(), 32);
  EXPECT_EQ(trace.num_layers(), 24);
  EXPECT_EQ(trace.topk(), 4);
}

TEST(GenerateTrace, ATokenCanTakeEveryExpert) {
  const auto trace = generate_trace(plain_model(5, 5), {3}, "decode", 0);
  for (std::int64_t token = 0; token < 3; ++token) {
    std::vector<int> ids;
    for (int k = 0; k < 5; ++k) ids.push_back(trace.id(token, 0, k));
    std::ranges::sort(ids);
    EXPECT_EQ(ids, (std::vector<int>{0, 1, 2, 3, 4}));
  }
}

void expect_error(const RouterModel& model, const std::vector<std::int64_t>& lengths,
                  ErrorCode code, const char* part) {
  try {
    (void)generate_trace(model, lengths, "decode", 0);
    ADD_FAILURE() << "no error about " << part;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(GenerateTrace, RefusesWhatIsOutOfRange) {
  const std::vector<std::int64_t> lengths = {4};
  expect_error(plain_model(8, 9), lengths, ErrorCode::kUsage, "topk is 9");
  expect_error(plain_model(0, 1), lengths, ErrorCode::kUsage, "experts is 0");
  expect_error(plain_model(65537, 1), lengths, ErrorCode::kUsage, "experts is 65537");
  expect_error(plain_model(8, 1), {}, ErrorCode::kUsage, "tokens is 0");
  expect_error(plain_model(8, 1), {4, 0}, ErrorCode::kUsage, "sequence length is 0");
  expect_error(plain_model(8, 1), {std::int64_t{1} << 62, std::int64_t{1} << 62},
               ErrorCode::kInfeasible, "too many");
  RouterModel large = plain_model(65536, 1);
  large.num_layers = 4096;
  expect_error(large, lengths, ErrorCode::kInfeasible,
               "4096 layers x 65536 experts take too long to draw, must be at most 4194304 in all");
  expect_error(plain_model(65536, 1), std::vector<std::int64_t>(65537, 1), ErrorCode::kInfeasible,
               "must be at most 16384 sequences");
  RouterModel model = plain_model(8, 1);
  model.drift_correlation = 1;
  expect_error(model, lengths, ErrorCode::kUsage, "drift_correlation is 1");
  model = plain_model(8, 1);
  model.whim_spread = std::nan("");
  expect_error(model, lengths, ErrorCode::kUsage, "whim_spread is nan");
  model = plain_model(8, 1);
  model.popularity.assign(7, 1);
  expect_error(model, lengths, ErrorCode::kUsage, "must be 8 (layers x experts)");
  model.popularity.assign(8, 1);
  model.popularity[3] = 0;
  expect_error(model, lengths, ErrorCode::kUsage, "popularity is 0");
}

}  // namespace
}  // namespace metro
