// SPDX-License-Identifier: Apache-2.0
// HACKING.md's invariants 1-6 over random placements and batches, every policy.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <ostream>
#include <set>
#include <string>

#include "metro/metrics.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "support/max_flow_oracle.hpp"
#include "support/random_instance.hpp"

namespace metro {

/// By name, where googletest would print the bytes.
void PrintTo(const PolicyInfo& policy, std::ostream* out) { *out << policy.name; }

namespace {

std::vector<std::int32_t> route(const test::Instance& instance, std::string_view policy,
                                const RouteOptions& options = {}) {
  Router router(instance.placement, policy, options);
  std::vector<std::int32_t> ids(instance.topk.ids.size(), -7);
  router.route(instance.topk.view(), ids);
  return ids;
}

int max_activated(const test::Instance& instance, std::string_view policy) {
  return MetricsCounter(instance.placement).count(route(instance, policy)).max_activated;
}

class EveryPolicy : public testing::TestWithParam<PolicyInfo> {};

INSTANTIATE_TEST_SUITE_P(Routing, EveryPolicy,
                         testing::ValuesIn(policies().begin(), policies().end()),
                         [](const auto& test) {
                           std::string name(test.param.name);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// Invariants 1 and 2: each (token, k) keeps its expert; masked ids pass through.
TEST_P(EveryPolicy, ServesEveryAssignmentFromItsOwnExpert) {
  EXPECT_TRUE(rc::check([&](std::uint64_t seed) {
    const test::Instance instance = test::random_instance(seed);
    const auto ids = route(instance, GetParam().name);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::int32_t expert = instance.topk.ids[i];
      if (expert == kMasked) {
        RC_ASSERT(ids[i] == kMasked);
      } else {
        RC_ASSERT(ids[i] >= 0 && ids[i] < instance.placement.num_replicas());
        RC_ASSERT(instance.placement.replica_to_expert[static_cast<std::size_t>(ids[i])] == expert);
      }
    }
  }));
}

// Invariant 3, on one machine: a used router and a fresh one agree, in place or not.
TEST_P(EveryPolicy, DependsOnNothingButItsInputs) {
  EXPECT_TRUE(rc::check([&](std::uint64_t seed) {
    const test::Instance instance = test::random_instance(seed);
    const auto expected = route(instance, GetParam().name);
    Rng rng(seed + 1);
    Router router(instance.placement, GetParam().name);
    const TopkBatch other = test::random_topk(rng, instance.placement.num_experts, 17, 3);
    std::vector<std::int32_t> scratch(other.ids.size());
    router.route(other.view(), scratch);
    std::vector<std::int32_t> ids = instance.topk.ids;
    router.route({ids, instance.topk.num_tokens, instance.topk.topk}, ids);
    RC_ASSERT(ids == expected);
  }));
}

// Ids that are no expert never index a table.
TEST_P(EveryPolicy, MasksForeignIds) {
  const test::Instance instance = test::random_instance(3);
  Router router(instance.placement, GetParam().name);
  const std::vector<std::int32_t> ids = {instance.placement.num_experts, -2, INT32_MAX, INT32_MIN};
  std::vector<std::int32_t> out(ids.size());
  router.route({ids, 2, 2}, out);
  EXPECT_EQ(out, (std::vector<std::int32_t>{-1, -1, -1, -1}));
}

// Invariant 5.
TEST_P(EveryPolicy, SingleReplicaPoliciesActivateEachExpertOnce) {
  if (!GetParam().single_replica) GTEST_SKIP() << GetParam().name << " spreads experts by design";
  EXPECT_TRUE(rc::check([&](std::uint64_t seed) {
    const test::Instance instance = test::random_instance(seed);
    const auto ids = route(instance, GetParam().name);
    std::set<std::int32_t> slots(ids.begin(), ids.end());
    std::set<std::int32_t> experts(instance.topk.ids.begin(), instance.topk.ids.end());
    slots.erase(kMasked);
    experts.erase(kMasked);
    RC_ASSERT(slots.size() == experts.size());
  }));
}

// Invariant 4, first half.
TEST_P(EveryPolicy, IsNeverBelowOptimal) {
  EXPECT_TRUE(rc::check([&](std::uint64_t seed) {
    const test::Instance instance = test::random_instance(seed);
    RC_ASSERT(max_activated(instance, "optimal") <= max_activated(instance, GetParam().name));
  }));
}

// Invariant 6.
TEST(Routing, NeverLosesToNoReplicationUnderHomedPlacements) {
  EXPECT_TRUE(rc::check([](std::uint64_t seed) {
    Rng rng(seed);
    const int num_gpus = 2 + static_cast<int>(rng.below(15));
    const int num_experts = num_gpus * (1 + static_cast<int>(rng.below(8))) -
                            static_cast<int>(rng.below(static_cast<std::uint32_t>(num_gpus)));
    const int slots = (num_experts + num_gpus - 1) / num_gpus + static_cast<int>(rng.below(4));
    RC_PRE(slots * num_gpus <= num_experts * num_gpus);
    Loads loads{1, num_experts, {}};
    for (int e = 0; e < num_experts; ++e) {
      loads.tokens.push_back(rng.below(3) == 0 ? 0.0 : 1000.0 * rng.uniform());
    }
    const Placement placement =
        place(loads, {.num_replicas = slots * num_gpus, .num_gpus = num_gpus}, "homed");
    const int tokens = 1 + static_cast<int>(rng.below(60));
    const test::Instance instance{placement.layers[0],
                                  test::random_topk(rng, num_experts, tokens, 4)};
    const int home = max_activated(instance, "home");
    RC_ASSERT(max_activated(instance, "optimal") <= home);
    RC_ASSERT(home <= (num_experts + num_gpus - 1) / num_gpus);
  }));
}

}  // namespace
}  // namespace metro
