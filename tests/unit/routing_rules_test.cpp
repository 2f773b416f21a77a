// SPDX-License-Identifier: Apache-2.0
// Each policy's rule, worked out by hand from the table of docs/policies.md on one small layer.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "metro/error.hpp"
#include "metro/metrics.hpp"
#include "metro/router.hpp"

namespace metro {
namespace {

// 4 GPUs, 2 slots each. Expert 0 has slots 0 2 5 (GPUs 0 1 2), expert 1 slots 1 3 (GPUs 0 1),
// expert 2 slots 4 (GPU 2) and 6 (GPU 3), expert 3 slot 7 (GPU 3).
LayerPlacement small_layer() {
  return {4, 4, {0, 1, 0, 1, 2, 0, 2, 3}, {0, 0, 1, 1, 2, 2, 3, 3}, {2, 1, 6, 7}, {}};
}

std::vector<std::int32_t> route(const LayerPlacement& placement, std::string_view policy,
                                std::vector<std::int32_t> ids, int topk,
                                const RouteOptions& options = {}) {
  const int tokens = static_cast<int>(ids.size()) / topk;
  std::vector<std::int32_t> out(ids.size());
  Router(placement, policy, options).route({ids, tokens, topk}, out);
  return out;
}

using Ids = std::vector<std::int32_t>;

TEST(RoutingRules, EvenTakesReplicasInTurn) {
  EXPECT_EQ(route(small_layer(), "even", {0, 1, 0, 0, 1, 0, 1, -1}, 2),
            (Ids{0, 1, 2, 5, 3, 0, 1, -1}));
}

TEST(RoutingRules, HashIsByRowAlone) {
  // Row hashes: 0, 2654435769, 1013904242, 3668340011; mod 3: 0, 0, 2, 2; mod 2: 0, 1, 0, 1.
  EXPECT_EQ(route(small_layer(), "hash", {0, 1, 0, 1, 0, 1, 0, 1}, 2),
            (Ids{0, 1, 0, 3, 5, 1, 5, 3}));
}

TEST(RoutingRules, RoundRobinCountsWithinTheSourceRank) {
  // 8 rows on 4 GPUs: two rows a rank; a rank starts at its own number.
  EXPECT_EQ(route(small_layer(), "round-robin", {0, 0, 0, 0, 0, 0, 0, 0}, 1),
            (Ids{0, 2, 2, 5, 5, 0, 0, 2}));
}

TEST(RoutingRules, StaticPrefersTheNearest) {
  // Ranks 0..3 for rows 0..3. Expert 0 is on GPUs 0, 1, 2; rank 3 has none.
  EXPECT_EQ(route(small_layer(), "static", {0, 0, 0, 0}, 1), (Ids{0, 2, 5, 0}));
  // With two nodes rank 3 shares its node with GPU 2; expert 1 is on the other: (row + expert)
  // mod 2.
  EXPECT_EQ(route(small_layer(), "static", {0, 0, 0, 0}, 1, {.num_nodes = 2}), (Ids{0, 2, 5, 5}));
  EXPECT_EQ(route(small_layer(), "static", {1, 1, 1, 1}, 1, {.num_nodes = 2}), (Ids{1, 3, 3, 1}));
}

TEST(RoutingRules, StaticCountsOneReplicaPerGpu) {
  const LayerPlacement twice{1, 2, {0, 0, 0}, {0, 0, 1}, {}, {}};
  // Both ranks find the expert on their own GPU, at its lowest slot there.
  EXPECT_EQ(route(twice, "static", {0, 0}, 1), (Ids{0, 2}));
}

TEST(RoutingRules, SingleAndHomeNeverLookAtTheBatch) {
  EXPECT_EQ(route(small_layer(), "single", {0, 1, 2, 3}, 1), (Ids{0, 1, 4, 7}));
  EXPECT_EQ(route(small_layer(), "home", {0, 1, 2, 3}, 1), (Ids{2, 1, 6, 7}));
  LayerPlacement no_home = small_layer();
  no_home.home.clear();
  EXPECT_EQ(route(no_home, "home", {0, 1, 2, 3}, 1), (Ids{2, 1, 4, 7}));  // one on each GPU
}

TEST(RoutingRules, SharesFollowTheWeights) {
  LayerPlacement weighted = small_layer();
  weighted.shares = {0, 1, 0, 0, 3, 1, 1, 1};  // expert 0: all on slot 5; expert 2: 3 to 1
  const int tokens = 4096;
  const Ids ids(tokens, 2);
  const auto out = route(weighted, "shares", ids, 1);
  EXPECT_NEAR(static_cast<double>(std::ranges::count(out, 4)), 0.75 * tokens, 0.01 * tokens);
  EXPECT_EQ(route(weighted, "shares", {0, 0, 0, 0}, 1), (Ids{5, 5, 5, 5}));
  EXPECT_EQ(route(weighted, "shares", {1, 1, 1, 1}, 1), (Ids{1, 1, 1, 1}));
}

TEST(RoutingRules, RandomIsKeyedBySeedLayerRowAndK) {
  const Ids ids(64, 0);
  const auto base = route(small_layer(), "random", ids, 2, {.seed = 1, .layer = 2});
  EXPECT_EQ(base, route(small_layer(), "random", ids, 2, {.seed = 1, .layer = 2}));
  EXPECT_NE(base, route(small_layer(), "random", ids, 2, {.seed = 2, .layer = 2}));
  EXPECT_NE(base, route(small_layer(), "random", ids, 2, {.seed = 1, .layer = 3}));
  for (const std::int32_t slot : {0, 2, 5}) {
    EXPECT_GT(std::ranges::count(base, slot), 64 / 3 / 3) << slot;
  }
}

TEST(RoutingRules, GreedyOrdersDiffer) {
  // Expert 0 may go to GPU 0 or 1, expert 1 only to GPU 0. In id order expert 0 takes GPU 0 first.
  const LayerPlacement trap{2, 2, {0, 1, 0}, {0, 0, 1}, {}, {}};
  EXPECT_EQ(route(trap, "metro-paper", {0, 1}, 2), (Ids{0, 1}));
  EXPECT_EQ(route(trap, "metro", {0, 1}, 2), (Ids{2, 1}));
  EXPECT_EQ(route(trap, "optimal", {0, 1}, 2), (Ids{2, 1}));
}

TEST(RoutingRules, GreedyTiesGoToTheLowestGpuNotTheLowestSlot) {
  const LayerPlacement reversed{1, 2, {0, 0}, {1, 0}, {}, {}};
  EXPECT_EQ(route(reversed, "metro", {0}, 1), (Ids{1}));
  EXPECT_EQ(route(reversed, "metro-paper", {0}, 1), (Ids{1}));
}

TEST(RoutingRules, EmptyBatchesAndDuplicatesInARow) {
  for (const PolicyInfo& policy : policies()) {
    EXPECT_EQ(route(small_layer(), policy.name, {}, 1), Ids{}) << policy.name;
    const auto out = route(small_layer(), policy.name, {3, 3, 3, 3}, 4);
    EXPECT_EQ(out, (Ids{7, 7, 7, 7})) << policy.name;
  }
}

TEST(RoutingRules, MetricsCountSlotsAndTokens) {
  MetricsCounter counter(small_layer());
  const RoutingMetrics& metrics = counter.count(Ids{0, 1, 0, 5, -1, 7});
  EXPECT_EQ(metrics.activated_per_gpu, (Ids{2, 0, 1, 1}));
  EXPECT_EQ(metrics.tokens_per_gpu, (std::vector<std::int64_t>{3, 0, 1, 1}));
  EXPECT_EQ(metrics.max_activated, 2);
  EXPECT_EQ(metrics.activated_total, 4);
  EXPECT_EQ(metrics.max_tokens, 3);
}

std::string error_of(const LayerPlacement& placement, std::string_view policy,
                     const RouteOptions& options) {
  try {
    Router(placement, policy, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Router, NamesWhatIsWrong) {
  EXPECT_EQ(
      error_of(small_layer(), "metroo", {}),
      "unknown policy 'metroo', known: even, hash, round-robin, random, static, single, home, "
      "shares, metro-paper, metro, optimal, hybrid");
  EXPECT_EQ(error_of(small_layer(), "static", {.num_nodes = 3}), "3 nodes do not divide 4 GPUs");
  LayerPlacement bad = small_layer();
  bad.replica_to_gpu[2] = 9;
  EXPECT_EQ(error_of(bad, "even", {}), "replica_to_gpu[2] is 9, must be 0..3");
}

}  // namespace
}  // namespace metro
