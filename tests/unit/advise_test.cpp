// SPDX-License-Identifier: Apache-2.0
// Advice: the rule over made-up rows, the sentences' figures, and cases whose answer is known.
#include "metro/advise.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "advise/choice.hpp"
#include "advise/reasons.hpp"
#include "metro/error.hpp"
#include "metro/requests.hpp"

namespace metro::test {
namespace {

struct MadeUp {
  double replication;
  bool sharded;
  double tpot_ms;
  double tokens_per_s = 1000;
  double goodput = 0;
  int completed = 100;
};

Advice made_up(const std::vector<MadeUp>& rows) {
  Advice advice;
  for (const MadeUp& of : rows) {
    AdviceRow& row = advice.rows.emplace_back();
    row.candidate.replication = of.replication;
    row.candidate.tensor_sharded = of.sharded;
    if (of.replication > 1) row.candidate.policy = "optimal";
    row.result.tpot_ms.mean = of.tpot_ms;
    row.result.output_tokens_per_s = of.tokens_per_s;
    row.result.goodput_requests_per_s = of.goodput;
    row.result.submitted = 100;
    row.result.completed = of.completed;
    if (of.tpot_ms == 0) row.error = "no room";
  }
  return advice;
}

std::size_t chosen(const std::vector<MadeUp>& rows, bool has_slo = false) {
  Advice advice = made_up(rows);
  choose(advice, has_slo, 0.01);
  return advice.chosen;
}

TEST(AdviceRule, TakesTheLeastTpot) {
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.25, false, 9}, {1.5, false, 8}}), 3U);
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 7}, {1.25, false, 9}, {1.5, false, 8}}), 1U);
}

TEST(AdviceRule, SmallGainsAreNotWorthAChange) {
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.25, false, 9.91}}), 0U);
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.25, false, 9.89}}), 2U);
  // Nor is more memory worth the last per cent, nor replicas where sharding does as well.
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.25, false, 8.05}, {1.5, false, 8}}), 2U);
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 8.05}, {1.25, false, 8.1}, {1.5, false, 8}}), 1U);
  // Of two policies at one ratio the better.
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.25, false, 8.05}, {1.25, false, 8}}), 3U);
}

TEST(AdviceRule, LatencyMayNotBeBoughtWithThroughput) {
  // A smaller KV cache makes smaller batches, which are faster and serve less.
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.5, false, 8, 980}}), 0U);
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.5, false, 8, 995}}), 2U);
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 11}, {1.5, false, 8, 1000, 0, 99}}), 0U)
      << "rejects a request";
}

TEST(AdviceRule, GoodputDecidesUnderAnSlo) {
  const std::vector<MadeUp> rows = {
      {1, false, 10, 1000, 5}, {1, true, 11, 1000, 4}, {1.25, false, 9, 1000, 6}};
  EXPECT_EQ(chosen(rows, true), 2U);
  // All requests of all candidates keep it: nothing to gain.
  EXPECT_EQ(
      chosen({{1, false, 10, 1000, 6}, {1, true, 11, 1000, 6}, {1.25, false, 9, 1000, 6}}, true),
      0U);
  // No request of any: the TPOT decides.
  Advice lost = made_up({{1, false, 10}, {1, true, 11}, {1.25, false, 9}});
  choose(lost, true, 0.01);
  EXPECT_EQ(lost.chosen, 2U);
  EXPECT_FALSE(lost.by_goodput);
}

TEST(AdviceRule, WhatCannotBeBuiltIsNotChosen) {
  EXPECT_EQ(chosen({{1, false, 10}, {1, true, 0}, {1.25, false, 0}}), 0U);
  EXPECT_EQ(chosen({{1, false, 0}, {1, true, 10}, {1.25, false, 0}}), 1U);
  Advice none = made_up({{1, false, 0}, {1, true, 0}});
  try {
    choose(none, false, 0.01);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInfeasible);
    EXPECT_STREQ(error.what(), "no room");
  }
}

/// Numbers of a text as they are written, without the "x" of a ratio.
std::vector<std::string> numbers(const std::string& text) {
  static const std::regex number(R"([0-9]+(\.[0-9]+)?)");
  std::vector<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), number), end; at != end; ++at) {
    found.push_back(at->str());
  }
  return found;
}

/// A sentence opens with a capital, or a candidate's name, ends in a full stop, and is one.
void expect_two_sentences_of_the_table(const Advice& advice, const std::string& more_facts) {
  std::set<std::string> known;
  for (const AdviceRow& row : advice.rows) {
    for (const std::string& text :
         {tpot_text(row), goodput_text(row), activated_text(row), kv_cost_text(row),
          kv_share_text(row), candidate_text(row.candidate)}) {
      for (const std::string& number : numbers(text)) known.insert(number);
    }
  }
  for (const std::string& number : numbers(more_facts)) known.insert(number);
  for (const std::string& sentence : advice.reasons) {
    EXPECT_EQ(sentence.back(), '.');
    EXPECT_EQ(sentence.find(". "), std::string::npos) << sentence;
    for (const std::string& number : numbers(sentence)) {
      EXPECT_TRUE(known.contains(number)) << number << " in: " << sentence;
    }
  }
  EXPECT_NE(advice.reasons[0].find(candidate_text(advice.choice().candidate)), std::string::npos);
  EXPECT_NE((advice.reasons[0] + advice.reasons[1]).find("moe-TP"), std::string::npos);
}

SimulationConfig serving(const char* model, const char* gpu, int gpus, int requests,
                         int in_flight) {
  SimulationConfig config;
  config.model = *find_model(model);
  config.gpu = *find_gpu(gpu);
  config.deployment.gpus = gpus;
  config.deployment.set_weights(config.model, config.model.weights);
  config.requests = equal_requests(requests, 64, 48);
  config.concurrency = in_flight;
  return config;
}

const AdviceOptions kOneRatio{.replication = {1.5}};

/// The change that the first sentence gives in brackets.
std::string change_of(const Advice& advice) {
  const double better = gain(advice.choice(), advice.rows[advice.off], false);
  return fmt::format("{:.1f}", 100 * better);
}

TEST(Advise, IdleExpertsOnManyGpusReplicate) {
  const Advice advice = advise(serving("DeepSeek-V3", "h200", 16, 64, 64), kOneRatio);
  EXPECT_TRUE(advice.replicate());
  EXPECT_EQ(advice.choice().candidate.name(), "homed+optimal");
  EXPECT_GT(advice.choice().kv_share_lost, 0);
  EXPECT_LT(advice.choice().result.max_activated, advice.rows[advice.off].result.max_activated);
  expect_two_sentences_of_the_table(advice, change_of(advice));
}

TEST(Advise, FewTokensOfLargeExpertsAreSharded) {
  const Advice advice = advise(serving("Qwen3-235B-A22B", "h200", 8, 64, 32), kOneRatio);
  EXPECT_FALSE(advice.replicate());
  EXPECT_EQ(advice.choice().candidate.name(), "s=4");
  EXPECT_EQ(advice.choice().candidate.shards, 4);
  EXPECT_EQ(advice.choice().kv_share_lost, 0);
  expect_two_sentences_of_the_table(advice, change_of(advice));
}

TEST(Advise, SaturatedDecodeDoesNothing) {
  const Advice advice = advise(serving("Qwen3-235B-A22B", "h200", 8, 1024, 1024), kOneRatio);
  EXPECT_TRUE(advice.choice().candidate.is_off());
  EXPECT_FALSE(advice.replicate());
  EXPECT_NE(advice.reasons[0].find("of the 16 experts of the busiest GPU anyway"),
            std::string::npos)
      << advice.reasons[0];
  expect_two_sentences_of_the_table(advice, "16 1");
}

TEST(Advise, RowsAreSimulationsAtEqualMemory) {
  SimulationConfig config = serving("Qwen3-30B-A3B", "h200", 4, 40, 8);
  const Advice advice = advise(config, {.replication = {1.25, 1.5}, .num_threads = 2});
  ASSERT_EQ(advice.rows.size(), 2U + 2 * 5 + (1 + 2))
      << "two groups of two, alone and with replicas";
  const AdviceRow& off = advice.rows[advice.off];
  SimulationCache cache;
  for (const AdviceRow& row : advice.rows) {
    config.replication = row.candidate.replication;
    config.deployment.tensor_sharded_experts = row.candidate.tensor_sharded;
    config.deployment.ep = 4 / row.candidate.shards;
    config.algorithm = row.candidate.algorithm;
    config.policy = row.candidate.policy;
    config.prefill_policy = row.candidate.prefill_policy;
    EXPECT_EQ(simulate(config, &cache).tpot_ms.mean, row.result.tpot_ms.mean)
        << row.candidate.name();
    // What replicas take is missing from the cache, token by token.
    const double lost_bytes =
        static_cast<double>(off.result.kv_capacity_tokens - row.result.kv_capacity_tokens) *
        row.result.memory.kv_bytes_per_token / config.deployment.gpus;
    EXPECT_NEAR(lost_bytes, row.result.memory.replica_bytes, 2e6) << row.candidate.name();
  }
}

TEST(Advise, OneGpuHasNothingToReplicateOn) {
  const Advice advice = advise(serving("Qwen3-30B-A3B", "h200", 1, 8, 4), kOneRatio);
  EXPECT_TRUE(advice.choice().candidate.is_off());
  for (const AdviceRow& row : advice.rows) {
    if (row.candidate.algorithm == "homed" && row.candidate.replication > 1) {
      EXPECT_NE(row.error, "");
    }
  }
}

TEST(Advise, SaysWhenTwoKernelsArePriced) {
  SimulationConfig config = serving("Qwen3-30B-A3B", "h200", 4, 4, 4);
  auto calibration = std::make_shared<Calibration>();
  calibration->gpu = "h200";
  calibration->experts = {{2048, 768, DataType::kBf16, 10, {{1, 5}}}};
  config.calibration = calibration;
  EXPECT_NE(advise(config, kOneRatio).note.find("no bf16 experts of 2048 x 192"),
            std::string::npos);
  auto both = std::make_shared<Calibration>(*calibration);
  both->experts.push_back({2048, 384, DataType::kBf16, 10, {{1, 3}}});
  both->experts.push_back({2048, 192, DataType::kBf16, 10, {{1, 2}}});
  config.calibration = both;
  EXPECT_EQ(advise(config, kOneRatio).note, "");
  config.calibration = nullptr;
  EXPECT_EQ(advise(config, kOneRatio).note, "");
}

/// 768 columns over 16 GPUs are 48 to a GPU: a block of 128 has one scale in fp8.
TEST(Advise, ShardsThatSplitScaleBlocksAreShownAndNotAdvised) {
  SimulationConfig config = serving("Qwen3-30B-A3B", "h200", 16, 32, 16);
  config.deployment.set_weights(config.model, DataType::kFp8);
  const Advice advice = advise(config, kOneRatio);
  int marked = 0;
  for (const AdviceRow& row : advice.rows) {
    const bool splits = row.candidate.tensor_sharded || row.candidate.shards == 4;  // 48, 192
    EXPECT_EQ(row.splits_scale_blocks, splits) << row.candidate.name();
    EXPECT_TRUE(!splits || !row.eligible);
    EXPECT_TRUE(!splits || !row.on_frontier);
    EXPECT_EQ(row.error, "");
    marked += splits ? 1 : 0;
  }
  EXPECT_EQ(marked, 3);
}

TEST(Advise, WidthsThatGpusCannotShareAreRowsOfTheirOwn) {
  SimulationConfig config = serving("gpt-oss-120b", "h200", 128, 8, 8);  // 2880 = 45 * 64
  const Advice advice = advise(config, kOneRatio);
  EXPECT_NE(advice.rows[1].error.find("128 GPUs cannot share an expert of 2880 columns"),
            std::string::npos)
      << advice.rows[1].error;
  config.deployment.tensor_sharded_experts = true;
  EXPECT_THROW(config.validate(), Error);
}

TEST(Advise, TheFrontierIsWhatNothingBeats) {
  const Advice advice = advise(serving("Qwen3-235B-A22B", "h200", 8, 64, 32), kOneRatio);
  for (const AdviceRow& row : advice.rows) {
    bool is_beaten = false;
    for (const AdviceRow& other : advice.rows) {
      const double faster = row.result.tpot_ms.mean - other.result.tpot_ms.mean;
      const double more = other.result.output_tokens_per_s - row.result.output_tokens_per_s;
      is_beaten |= faster >= 0 && more >= 0 && (faster > 0 || more > 0);
    }
    EXPECT_EQ(row.on_frontier, !is_beaten) << row.candidate.name();
  }
}

TEST(Advise, FewerGpusThatKeepTheSlo) {
  SimulationConfig config = serving("Qwen3-30B-A3B", "h200", 8, 32, 16);
  EXPECT_THROW(smaller_fleets(config, kOneRatio), Error) << "no SLO";
  config.slo_tpot_ms = 1000;
  const auto fleets = smaller_fleets(config, kOneRatio);
  ASSERT_EQ(fleets.size(), 4U);
  for (std::size_t i = 0; i < fleets.size(); ++i) {
    EXPECT_EQ(fleets[i].gpus, 8 >> i);
    ASSERT_EQ(fleets[i].error, "");
    EXPECT_TRUE(fleets[i].keeps_slo);
  }
  // Between the two smallest: the one keeps it, the other does not.
  config.slo_tpot_ms = (fleets[2].row.result.tpot_ms.p90 + fleets[3].row.result.tpot_ms.p90) / 2;
  ASSERT_GT(fleets[3].row.result.tpot_ms.p90, fleets[2].row.result.tpot_ms.p90);
  const auto fewer = smaller_fleets(config, kOneRatio);
  EXPECT_TRUE(fewer[2].keeps_slo);
  EXPECT_FALSE(fewer[3].keeps_slo);
  EXPECT_LE(fewer[2].row.result.tpot_ms.p90, config.slo_tpot_ms);
}

TEST(Advise, NamesBadOptions) {
  const SimulationConfig config = serving("Qwen3-30B-A3B", "h200", 4, 4, 4);
  EXPECT_THROW(advise(config, {.replication = {1.0}}), Error);
  EXPECT_THROW(advise(config, {.margin = -0.1}), Error);
}

}  // namespace
}  // namespace metro::test
