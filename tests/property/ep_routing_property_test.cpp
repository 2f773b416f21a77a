// SPDX-License-Identifier: Apache-2.0
// Ranks that route their own tokens choose what one router over the global batch chooses.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "ep/replica_chooser.hpp"
#include "ep/token_targets.hpp"
#include "metro/ep/local_transport.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro::test {
namespace {

/// The batch of an instance, cut up over the ranks at random.
std::vector<int> cut(Rng& rng, int num_tokens, int ranks) {
  std::vector<int> tokens(static_cast<std::size_t>(ranks));
  for (int t = 0; t < num_tokens; ++t) ++tokens[rng.below(static_cast<std::uint32_t>(ranks))];
  return tokens;
}

std::vector<std::int32_t> route_by_rank(const Instance& instance, const std::vector<int>& tokens,
                                        std::string_view policy) {
  const auto topk = static_cast<std::size_t>(instance.topk.topk);
  std::vector<std::int32_t> replica_ids(instance.topk.ids.size());
  ep::run_local_ranks(instance.placement.num_gpus, 60, [&](ep::Transport& transport) {
    const auto r = static_cast<std::size_t>(transport.rank());
    const auto first = static_cast<std::size_t>(
        std::accumulate(tokens.begin(), tokens.begin() + transport.rank(), 0));
    const std::size_t size = static_cast<std::size_t>(tokens[r]) * topk;
    const TopkView own{std::span(instance.topk.ids).subspan(first * topk, size), tokens[r],
                       instance.topk.topk};
    ep::ReplicaChooser chooser(instance.placement, policy, {.seed = 3});
    chooser.share(own, tokens, transport);
    chooser.route_own(own, std::span(replica_ids).subspan(first * topk, size));
  });
  return replica_ids;
}

RC_GTEST_PROP(EpRouting, RanksChooseAsOneRouterDoes, (std::uint32_t seed)) {  // invariant 3
  const Instance instance = random_instance(seed, {.max_experts = 24, .max_gpus = 5});
  Rng rng(seed);
  const std::vector<int> tokens = cut(rng, instance.topk.num_tokens, instance.placement.num_gpus);
  for (const PolicyInfo& policy : policies()) {
    std::vector<std::int32_t> expected(instance.topk.ids.size());
    Router(instance.placement, policy.name, {.seed = 3}).route(instance.topk.view(), expected);
    RC_LOG() << policy.name;
    RC_ASSERT(route_by_rank(instance, tokens, policy.name) == expected);
  }
}

/// The batch of an instance, each rank with the rows of its own number as a source.
std::vector<int> equal_shares(int num_tokens, int ranks) {
  std::vector<int> tokens(static_cast<std::size_t>(ranks));
  for (int t = 0; t < num_tokens; ++t) {
    ++tokens[static_cast<std::size_t>(source_rank(t, num_tokens, ranks))];
  }
  return tokens;
}

RC_GTEST_PROP(EpRouting, EqualSharesNeedWhatTheTableSays, (std::uint32_t seed)) {
  const Instance instance = random_instance(seed, {.max_experts = 24, .max_gpus = 5});
  const std::vector<int> tokens =
      equal_shares(instance.topk.num_tokens, instance.placement.num_gpus);
  for (const PolicyInfo& policy : policies()) {
    std::vector<std::int32_t> expected(instance.topk.ids.size());
    Router(instance.placement, policy.name, {.seed = 3}).route(instance.topk.view(), expected);
    RC_LOG() << policy.name;
    RC_ASSERT(ep::ReplicaChooser(instance.placement, policy.name, {}).needs(tokens) ==
              policy.needs);
    RC_ASSERT(route_by_rank(instance, tokens, policy.name) == expected);
  }
}

TEST(EpRouting, APolicyThatCountsHearsAllIdsWhereSharesAreUnequal) {
  const LayerPlacement placement{1, 2, {0, 0}, {0, 1}, {}, {}};
  for (const PolicyInfo& policy : policies()) {
    const ep::ReplicaChooser chooser(placement, policy.name, {});
    EXPECT_EQ(chooser.needs(std::vector{4, 4}), policy.needs) << policy.name;
    EXPECT_EQ(chooser.needs(std::vector{3, 5}),
              policy.counts_tokens ? PolicyNeeds::kIds : policy.needs)
        << policy.name;
  }
}

RC_GTEST_PROP(EpRouting, ATokenGoesOnceToEachGpuItNeeds, (std::uint32_t seed)) {
  const Instance instance = random_instance(seed);
  const auto topk = static_cast<std::size_t>(instance.topk.topk);
  std::vector<std::int32_t> ids(instance.topk.ids.size());
  Router(instance.placement, "hash").route(instance.topk.view(), ids);
  ep::TokenTargets targets(instance.placement.replica_to_gpu, instance.placement.num_gpus);
  targets.compute(ids, instance.topk.num_tokens);
  for (int gpu = 0; gpu < instance.placement.num_gpus; ++gpu) {
    std::vector<std::int32_t> expected;
    for (int row = 0; row < instance.topk.num_tokens; ++row) {
      bool needed = false;
      for (std::size_t k = 0; k < topk; ++k) {
        const std::int32_t id = ids[static_cast<std::size_t>(row) * topk + k];
        needed = needed || (id >= 0 &&
                            instance.placement.replica_to_gpu[static_cast<std::size_t>(id)] == gpu);
      }
      if (needed) expected.push_back(row);
    }
    const auto rows = targets.rows(gpu);
    RC_ASSERT(std::vector<std::int32_t>(rows.begin(), rows.end()) == expected);
  }
}

}  // namespace
}  // namespace metro::test
