// SPDX-License-Identifier: Apache-2.0
// Every fact of the tables of policies and placements, against what each of them does. A fact that
// says "never" holds in all instances, one that says "may" is seen in one of them at least.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {

/// By name, where googletest would print the bytes.
void PrintTo(const PolicyInfo& policy, std::ostream* out) { *out << policy.name; }
void PrintTo(const PlacementAlgorithm& algorithm, std::ostream* out) { *out << algorithm.name; }

namespace {

constexpr std::uint64_t kInstances = 400;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

template <typename Row>
std::string test_name(const testing::TestParamInfo<Row>& test) {
  std::string name(test.param.name);
  std::ranges::replace(name, '-', '_');
  return name;
}

class PolicyFacts : public testing::TestWithParam<PolicyInfo> {
 protected:
  static std::vector<std::int32_t> route(const LayerPlacement& placement, const TopkBatch& batch) {
    std::vector<std::int32_t> ids(batch.ids.size());
    Router(placement, GetParam().name).route(batch.view(), ids);
    return ids;
  }

  /// Whether the rows of `batch` for which `is_kept` holds get the ids that they get when all
  /// other rows are masked.
  template <typename Keep>
  static bool rows_suffice(const test::Instance& instance, Keep is_kept) {
    const std::vector<std::int32_t> whole = route(instance.placement, instance.topk);
    TopkBatch part = instance.topk;
    for (std::size_t i = 0; i < part.ids.size(); ++i) {
      if (!is_kept(static_cast<int>(i) / part.topk)) part.ids[i] = kMasked;
    }
    const std::vector<std::int32_t> ids = route(instance.placement, part);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (is_kept(static_cast<int>(i) / part.topk) && ids[i] != whole[i]) return false;
    }
    return true;
  }

  static bool each_row_suffices(const test::Instance& instance) {
    for (int row = 0; row < instance.topk.num_tokens; ++row) {
      if (!rows_suffice(instance, [row](int other) { return other == row; })) return false;
    }
    return true;
  }

  static bool rank_rows_suffice(const test::Instance& instance) {
    const int gpus = instance.placement.num_gpus;
    for (int rank = 0; rank < gpus; ++rank) {
      if (!rows_suffice(instance, [&](int row) {
            return source_rank(row, instance.topk.num_tokens, gpus) == rank;
          })) {
        return false;
      }
    }
    return true;
  }

  /// Whether every expert keeps its slot when each active expert comes once.
  static bool bitmap_suffices(const test::Instance& instance) {
    std::set<std::int32_t> active(instance.topk.ids.begin(), instance.topk.ids.end());
    active.erase(kMasked);
    const TopkBatch once{{active.begin(), active.end()}, static_cast<int>(active.size()), 1};
    const std::vector<std::int32_t> slots = route(instance.placement, once);
    std::map<std::int32_t, std::int32_t> slot_of{{kMasked, kMasked}};
    for (std::size_t i = 0; i < slots.size(); ++i) slot_of[once.ids[i]] = slots[i];
    const std::vector<std::int32_t> ids = route(instance.placement, instance.topk);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (slot_of.at(instance.topk.ids[i]) != ids[i]) return false;
    }
    return true;
  }

  static bool activates_each_expert_once(const test::Instance& instance) {
    std::map<std::int32_t, std::int32_t> slot_of;
    const std::vector<std::int32_t> ids = route(instance.placement, instance.topk);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (slot_of.try_emplace(instance.topk.ids[i], ids[i]).first->second != ids[i]) return false;
    }
    return true;
  }

  /// How many of the instances are so.
  template <typename Check>
  static std::uint64_t count(Check check) {
    std::uint64_t found = 0;
    for (std::uint64_t seed = 0; seed < kInstances; ++seed) {
      found += check(test::random_instance(seed)) ? 1U : 0U;
    }
    return found;
  }
};

INSTANTIATE_TEST_SUITE_P(Table, PolicyFacts,
                         testing::ValuesIn(policies().begin(), policies().end()),
                         test_name<PolicyInfo>);

TEST_P(PolicyFacts, NeedsWhatItSays) {
  const PolicyInfo& policy = GetParam();
  const auto row = count(each_row_suffices);
  const auto rank = count(rank_rows_suffice);
  const auto bitmap = count(bitmap_suffices);
  switch (policy.needs) {
    case PolicyNeeds::kOwnRows:
      EXPECT_EQ(rank, kInstances);
      if (policy.counts_tokens) {
        EXPECT_LT(row, kInstances) << "it never looks at other rows: counts_tokens is false";
      } else {
        EXPECT_EQ(row, kInstances) << "it looks at other rows of its rank: counts_tokens is true";
      }
      break;
    case PolicyNeeds::kBitmap:
      EXPECT_EQ(bitmap, kInstances);
      EXPECT_LT(rank, kInstances) << "the rank's own rows are enough";
      EXPECT_FALSE(policy.counts_tokens) << "a bitmap has nothing to count";
      break;
    case PolicyNeeds::kIds:
      EXPECT_LT(bitmap, kInstances) << "the bitmap is enough";
      EXPECT_LT(rank, kInstances) << "the rank's own rows are enough";
      break;
  }
}

TEST_P(PolicyFacts, SplitsIfItSaysSo) {
  const auto once = count(activates_each_expert_once);
  if (GetParam().single_replica) {
    EXPECT_EQ(once, kInstances);
  } else {
    EXPECT_LT(once, kInstances);
  }
  EXPECT_NE(GetParam().single_replica, GetParam().splits());
}

TEST_P(PolicyFacts, UsesHomesIfItSaysSo) {
  const auto same = count([](test::Instance instance) {
    LayerPlacement& placement = instance.placement;
    const std::vector<std::int32_t> before = route(placement, instance.topk);
    placement.home.assign(at(placement.num_experts), 0);
    for (int slot = 0; slot < placement.num_replicas(); ++slot) {  // the last replica of each
      placement.home[at(placement.replica_to_expert[at(slot)])] = slot;
    }
    return route(placement, instance.topk) == before;
  });
  if (GetParam().uses_homes) {
    EXPECT_LT(same, kInstances);
  } else {
    EXPECT_EQ(same, kInstances);
  }
}

TEST_P(PolicyFacts, UsesSharesIfItSaysSo) {
  const auto same = count([](test::Instance instance) {
    LayerPlacement& placement = instance.placement;
    const std::vector<std::int32_t> before = route(placement, instance.topk);
    placement.shares.clear();
    for (int slot = 0; slot < placement.num_replicas(); ++slot) {
      placement.shares.push_back(1.0 + slot);
    }
    return route(placement, instance.topk) == before;
  });
  if (GetParam().uses_shares) {
    EXPECT_LT(same, kInstances);
  } else {
    EXPECT_EQ(same, kInstances);
  }
}

TEST_P(PolicyFacts, UsesTheCostIfItSaysSo) {
  const auto steep = std::make_shared<const ExpertCost>(ExpertTimes{{0}, 1, 0});
  const auto flat = std::make_shared<const ExpertCost>(ExpertTimes{{0, 1}, 0, 0});
  const auto same = count([&](const test::Instance& instance) {
    const auto ids = [&](const std::shared_ptr<const ExpertCost>& cost) {
      std::vector<std::int32_t> replica_ids(instance.topk.ids.size());
      Router(instance.placement, GetParam().name, {.cost = cost})
          .route(instance.topk.view(), replica_ids);
      return replica_ids;
    };
    return ids(steep) == ids(flat);
  });
  if (GetParam().uses_cost) {
    EXPECT_LT(same, kInstances);
  } else {
    EXPECT_EQ(same, kInstances);
  }
}

class PlacementFacts : public testing::TestWithParam<PlacementAlgorithm> {
 protected:
  static std::vector<double> random_load(Rng& rng, int num_experts) {
    std::vector<double> load;
    for (int e = 0; e < num_experts; ++e) load.push_back(1 + rng.below(100));
    return load;
  }
};

INSTANTIATE_TEST_SUITE_P(Table, PlacementFacts,
                         testing::ValuesIn(placement_algorithms().begin(),
                                           placement_algorithms().end()),
                         test_name<PlacementAlgorithm>);

TEST_P(PlacementFacts, LookAtWhatTheySay) {
  const PlacementAlgorithm& algorithm = GetParam();
  int other_load = 0;
  int other_groups = 0;
  int repeats = 0;
  for (std::uint64_t seed = 0; seed < kInstances; ++seed) {
    Rng rng(seed);
    const int experts = 8 * (1 + static_cast<int>(rng.below(4)));
    const std::vector<double> load = random_load(rng, experts);
    const PlacementRequest flat{.num_replicas = experts + 8, .num_gpus = 4};
    const LayerPlacement placement = algorithm.place_layer(load, flat);
    other_load += algorithm.place_layer(random_load(rng, experts), flat) == placement ? 0 : 1;
    PlacementRequest grouped = flat;
    grouped.num_groups = 4;
    grouped.num_nodes = 2;
    other_groups += algorithm.place_layer(load, grouped) == placement ? 0 : 1;
    // As many slots on a GPU as there are experts, and then some where they may be used so.
    for (const int slots : {2, experts, experts + 1}) {
      if (!algorithm.repeats_on_gpu && slots > experts) continue;
      const PlacementRequest crowded{.num_replicas = std::max(experts, 2 * slots), .num_gpus = 2};
      const LayerPlacement of = algorithm.place_layer(load, crowded);
      std::set<std::pair<std::int32_t, std::int32_t>> pairs;
      for (int slot = 0; slot < of.num_replicas(); ++slot) {
        pairs.emplace(of.replica_to_expert[at(slot)], of.replica_to_gpu[at(slot)]);
      }
      repeats += pairs.size() < at(of.num_replicas()) ? 1 : 0;
    }
  }
  EXPECT_EQ(other_load > 0, algorithm.uses_loads);
  EXPECT_EQ(other_groups > 0, algorithm.uses_groups);
  EXPECT_EQ(repeats > 0, algorithm.repeats_on_gpu);
}

TEST(PolicyTable, NamesPriceAndDefaultsHoldTogether) {
  std::set<std::string_view> names;
  for (const PolicyInfo& policy : policies()) {
    SCOPED_TRACE(policy.name);
    EXPECT_TRUE(names.insert(policy.name).second) << "two rows of one name";
    EXPECT_EQ(policy.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), std::string::npos);
    EXPECT_FALSE(policy.rule.empty());
    EXPECT_LE(policy.rule.size(), 80U) << "one line of a help text";
    EXPECT_FALSE(policy.source.empty());
    EXPECT_GT(policy.route_us, 0);
    const PolicyInfo* priced_as = find_policy(policy.calibration_key);
    ASSERT_NE(priced_as, nullptr);
    EXPECT_EQ(priced_as->route_us, policy.route_us) << "one kernel, one price";
    EXPECT_TRUE(priced_as->device) << "a calibration of a GPU times what runs there";
    EXPECT_EQ(priced_as->name == policy.name, policy.device);
  }
  for (const std::string_view name :
       {kDefaultPolicy, kDefaultDecodePolicy, kDefaultPrefillPolicy, kOptimalPolicy, kEvenPolicy,
        kHashPolicy, kHomePolicy, kPaperPolicy}) {
    EXPECT_NE(find_policy(name), nullptr) << name;
  }
  for (const std::string_view name : {kEplbAlgorithm, kHomedAlgorithm}) {
    EXPECT_NE(find_placement_algorithm(name), nullptr) << name;
  }
}

}  // namespace
}  // namespace metro
