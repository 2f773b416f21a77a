// SPDX-License-Identifier: Apache-2.0
// The layer on ranks against the plain one-place reference, in every way to run it.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "metro/error.hpp"
#include "metro/router.hpp"
#include "support/moe_cases.hpp"

namespace metro::test {
namespace {

using ep::Combine;
using ep::Dispatch;
using ep::ExpertSharding;

class EpLayer : public testing::TestWithParam<int> {};  // ranks
INSTANTIATE_TEST_SUITE_P(Ranks, EpLayer, testing::Values(1, 2, 4, 8));

TEST_P(EpLayer, EveryPolicyAndDispatchComputesWhatOnePlaceComputes) {
  MoeCase test = small_case(GetParam(), 7);
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 3);
  for (const PolicyInfo& policy : policies()) {
    test.options.policy = policy.name;
    std::vector<std::vector<std::int32_t>> replica_ids;
    for (const Way& way : kWays) {
      SCOPED_TRACE(std::string(policy.name) + " " + std::string(to_string(way.dispatch)) + " " +
                   std::string(to_string(way.combine)));
      test.options.dispatch = way.dispatch;
      test.options.combine = way.combine;
      const MoeOutcome outcome = run_ranks(test, x);
      EXPECT_LT(distance(test, x, outcome.out), 1e-4);
      // Invariant 1: every (token, k) is served once.
      EXPECT_EQ(assignments(outcome), outcome.replica_ids.size());
      replica_ids.push_back(outcome.replica_ids);
    }
    // Invariant 3: the same replicas, wherever they were chosen.
    EXPECT_EQ(replica_ids[0], replica_ids[1]) << policy.name;
    EXPECT_EQ(replica_ids[0], replica_ids[2]) << policy.name;
  }
}

TEST_P(EpLayer, TensorShardedComputesTheSame) {
  MoeCase test = small_case(GetParam(), 8);
  test.shape.intermediate = 13;  // no multiple of the ranks
  test.options.sharding = ExpertSharding::kTensorSharded;
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 4);
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    const MoeOutcome outcome = run_ranks(test, x);
    EXPECT_LT(distance(test, x, outcome.out), 1e-4);
    EXPECT_EQ(assignments(outcome), outcome.replica_ids.size() * test.tokens.size());
  }
}

/// Groups of s ranks: the same output, one choice for a group, and each of its ranks serves it.
TEST_P(EpLayer, ShardedGroupsComputeTheSame) {
  for (const int shards : {2, 4, 8}) {
    if (shards > GetParam()) continue;
    MoeCase test = small_case(GetParam(), 16);
    test.shape.intermediate = 24;
    const int groups = GetParam() / shards;
    Rng rng(static_cast<std::uint64_t>(shards));
    test.steps = {random_placement(rng, test.shape.num_experts, groups),
                  random_placement(rng, test.shape.num_experts, groups)};
    test.options.shards = shards;
    const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 9);
    for (const PolicyInfo& policy : policies()) {
      test.options.policy = policy.name;
      std::vector<std::vector<std::int32_t>> replica_ids;
      for (const Way& way : kWays) {
        SCOPED_TRACE(std::string(policy.name) + " " + std::string(to_string(way.dispatch)) + " " +
                     std::string(to_string(way.combine)) + " s = " + std::to_string(shards));
        test.options.dispatch = way.dispatch;
        test.options.combine = way.combine;
        const MoeOutcome outcome = run_ranks(test, x);
        EXPECT_LT(distance(test, x, outcome.out), 1e-4);
        EXPECT_EQ(assignments(outcome),
                  outcome.replica_ids.size() * static_cast<std::size_t>(shards));
        for (std::size_t r = 0; r < outcome.runs.size(); ++r) {
          const ep::LayerRun& first = outcome.runs[r - r % static_cast<std::size_t>(shards)];
          EXPECT_EQ(outcome.runs[r].activated, first.activated) << "rank " << r;
          EXPECT_EQ(outcome.runs[r].weight_bytes, first.weight_bytes);
        }
        replica_ids.push_back(outcome.replica_ids);
      }
      // Invariant 3 on groups: whatever the ranks told each other, the choice is the same.
      EXPECT_EQ(replica_ids[0], replica_ids[1]) << policy.name;
      EXPECT_EQ(replica_ids[0], replica_ids[2]) << policy.name;
    }
  }
}

TEST(EpLayerFaults, GroupsThatDoNotFit) {
  MoeCase test = small_case(4, 17);
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 9);
  test.options.shards = 2;
  EXPECT_THROW(run_ranks(test, x), Error) << "a placement over ranks";
  Rng rng(1);
  test.steps = {random_placement(rng, test.shape.num_experts, 2)};
  EXPECT_NO_THROW(run_ranks(test, x));
  test.shape.intermediate = 13;
  EXPECT_THROW(run_ranks(test, x), Error) << "a width that two ranks cannot share";
  test.options.shards = 3;
  EXPECT_THROW(run_ranks(test, x), Error) << "groups of three in four ranks";
}

TEST_P(EpLayer, DeepSeeksGateChoosesWithinGroups) {
  MoeCase test = small_case(GetParam(), 9);
  test.shape.gate = {.score = GateScore::kSigmoid,
                     .num_groups = 4,
                     .topk_groups = 2,
                     .normalise_weights = true,
                     .weight_scale = 2.5};
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 5);
  EXPECT_LT(distance(test, x, run_ranks(test, x).out), 1e-4);
}

TEST_P(EpLayer, MaskedIdsAndGivenExpertsAreServedAsGiven) {
  MoeCase test = small_case(GetParam(), 10);
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 6);
  Rng rng(5);
  std::vector<std::int32_t> ids(static_cast<std::size_t>(test.num_tokens() * test.shape.topk));
  for (auto& id : ids) id = static_cast<std::int32_t>(rng.below(17)) - 1;  // a row may repeat one
  std::fill_n(ids.begin(), test.shape.topk, kMasked);
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    const MoeOutcome outcome = run_ranks(test, x, ids);
    EXPECT_LT(distance(test, x, outcome.out, ids), 1e-4);
    EXPECT_EQ(assignments(outcome),
              ids.size() - static_cast<std::size_t>(std::ranges::count(ids, kMasked)));
  }
}

TEST_P(EpLayer, PaddingIsNeverServed) {
  MoeCase test = small_case(GetParam(), 11);
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 6);
  std::size_t num_valid = 0;
  for (const int tokens : test.tokens) {
    test.valid.push_back(tokens / 2);
    num_valid += static_cast<std::size_t>(tokens / 2);
  }
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    const MoeOutcome outcome = run_ranks(test, x);
    EXPECT_EQ(assignments(outcome), num_valid * static_cast<std::size_t>(test.shape.topk));
    const auto hidden = static_cast<std::size_t>(test.shape.hidden);
    for (int rank = 0; rank < test.num_ranks(); ++rank) {
      const auto r = static_cast<std::size_t>(rank);
      const auto begin = static_cast<std::size_t>(test.first_row(rank) + test.valid[r]) * hidden;
      const auto count = static_cast<std::size_t>(test.tokens[r] - test.valid[r]) * hidden;
      EXPECT_EQ(std::count(outcome.out.begin() + static_cast<std::ptrdiff_t>(begin),
                           outcome.out.begin() + static_cast<std::ptrdiff_t>(begin + count), 0.0F),
                static_cast<std::ptrdiff_t>(count));
    }
  }
}

TEST_P(EpLayer, PlacementChangesBetweenStepsLoseNothing) {  // invariant 7
  MoeCase test = small_case(GetParam(), 12);
  Rng rng(1);
  for (int i = 0; i < 4; ++i) {
    test.steps.push_back(random_placement(rng, test.shape.num_experts, GetParam()));
  }
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 7);
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    EXPECT_LT(distance(test, x, run_ranks(test, x).out), 1e-4);
  }
}

TEST_P(EpLayer, NoTokensAnywhere) {
  MoeCase test = small_case(GetParam(), 13);
  std::ranges::fill(test.tokens, 0);
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    EXPECT_EQ(assignments(run_ranks(test, {})), 0U);
  }
}

TEST(EpLayerThreads, GiveTheSameBits) {
  MoeCase test = small_case(2, 14);
  test.tokens = {9, 8};
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 8);
  const std::vector<float> one = run_ranks(test, x).out;
  test.threads = 3;
  EXPECT_EQ(run_ranks(test, x).out, one);
}

TEST(EpLayerFaults, NameWhatDoesNotFit) {
  MoeCase test = small_case(2, 15);
  test.steps.front().num_gpus = 3;
  try {
    run_ranks(test, random_tokens(test.num_tokens(), test.shape.hidden, 1));
    FAIL() << "a placement for 3 GPUs must not run on 2 ranks";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    EXPECT_STREQ(error.what(), "placement num_gpus is 3, must be 2, the number of ranks");
  }
}

}  // namespace
}  // namespace metro::test
