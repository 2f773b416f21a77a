// SPDX-License-Identifier: Apache-2.0
// Exact homes against max-flow: the fullest GPU has as few as a batch that activates everything
// must give it. METRO_ORACLE_INSTANCES as in optimal_oracle_test.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "core/homes.hpp"
#include "core/rng.hpp"
#include "metro/error.hpp"
#include "metro/homes.hpp"
#include "metro/metrics.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "routing/activation_solver.hpp"
#include "support/max_flow_oracle.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

std::uint64_t num_instances() {
  const char* text = std::getenv("METRO_ORACLE_INSTANCES");
  return text == nullptr ? 20000 : std::stoull(text);
}

TopkBatch every_expert(const LayerPlacement& placement) {
  TopkBatch batch{std::vector<std::int32_t>(static_cast<std::size_t>(placement.num_experts)), 1,
                  placement.num_experts};
  std::iota(batch.ids.begin(), batch.ids.end(), 0);
  return batch;
}

/// A random layer without homes; every tenth on one GPU, with copies of experts there.
LayerPlacement bare_placement(std::uint64_t seed, int max_experts = 48, int max_gpus = 12) {
  Rng rng(seed);
  const auto below = [&](int end) { return rng.below(static_cast<std::uint32_t>(end)); };
  const int experts = 1 + static_cast<int>(below(max_experts));
  const int gpus = seed % 10 == 0 ? 1 : 1 + static_cast<int>(below(max_gpus));
  LayerPlacement placement = test::random_placement(rng, experts, gpus);
  placement.home.clear();
  return placement;
}

std::size_t gpu_of(const LayerPlacement& placement, std::int32_t slot) {
  return static_cast<std::size_t>(placement.replica_to_gpu[static_cast<std::size_t>(slot)]);
}

int most_homes(const LayerPlacement& placement, const std::vector<std::int32_t>& home) {
  std::vector<int> count(static_cast<std::size_t>(placement.num_gpus), 0);
  for (const std::int32_t slot : home) ++count[gpu_of(placement, slot)];
  return std::ranges::max(count);
}

double most_load(const LayerPlacement& placement, const std::vector<std::int32_t>& home,
                 const std::vector<double>& load) {
  std::vector<double> sum(static_cast<std::size_t>(placement.num_gpus), 0.0);
  for (std::size_t e = 0; e < home.size(); ++e) sum[gpu_of(placement, home[e])] += load[e];
  return std::ranges::max(sum);
}

int max_activated(const LayerPlacement& placement, const TopkBatch& topk, std::string_view policy) {
  Router router(placement, policy);
  std::vector<std::int32_t> ids(topk.ids.size());
  router.route(topk.view(), ids);
  return MetricsCounter(placement).count(ids).max_activated;
}

std::vector<double> skewed_load(std::uint64_t seed, int num_experts) {
  Rng rng(seed + 1);
  std::vector<double> load;
  for (int e = 0; e < num_experts; ++e) load.push_back(std::exp(4 * rng.uniform()));
  return load;
}

void expect_homes_hold_their_experts(LayerPlacement placement, std::vector<std::int32_t> home) {
  placement.home = std::move(home);
  EXPECT_NO_THROW(placement.validate());
}

TEST(Homes, AreExactOnRandomInstances) {
  for (std::uint64_t seed = 0; seed < num_instances(); ++seed) {
    const LayerPlacement placement = bare_placement(seed);
    const std::vector<std::int32_t> home = find_homes(placement);
    expect_homes_hold_their_experts(placement, home);
    ASSERT_EQ(most_homes(placement, home),
              test::oracle_max_activated(placement, every_expert(placement)))
        << "seed " << seed;
  }
}

TEST(Homes, AreExactOnLargeInstances) {
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    const LayerPlacement placement = bare_placement(seed, 1024, 1024);
    ASSERT_EQ(most_homes(placement, find_homes(placement)),
              test::oracle_max_activated(placement, every_expert(placement)))
        << "seed " << seed;
  }
}

TEST(Homes, ASlotIsTheLowestOfItsGpu) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const LayerPlacement placement = bare_placement(seed);
    const std::vector<std::int32_t> home = find_homes(placement);
    for (std::int32_t slot = 0; slot < placement.num_replicas(); ++slot) {
      const std::int32_t of_expert = home[static_cast<std::size_t>(
          placement.replica_to_expert[static_cast<std::size_t>(slot)])];
      if (gpu_of(placement, slot) != gpu_of(placement, of_expert)) continue;
      ASSERT_LE(of_expert, slot);
    }
  }
}

// Every reader has the same: the index, the router with and without them in the placement.
TEST(Homes, AListThatSaysTheSameChangesNothing) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const LayerPlacement bare = bare_placement(seed);
    LayerPlacement listed = bare;
    listed.home = find_homes(bare);
    ASSERT_EQ(find_homes(listed), listed.home);
    ASSERT_EQ(level_homes(ReplicaIndex(bare), listed.home), listed.home) << "seed " << seed;
    Rng rng(seed);
    const TopkBatch topk = test::random_topk(rng, bare.num_experts, 20, 4);
    for (const std::string_view policy : {"home", "optimal"}) {
      Router a(bare, policy);
      Router b(listed, policy);
      std::vector<std::int32_t> of_bare(topk.ids.size());
      std::vector<std::int32_t> of_listed(topk.ids.size());
      a.route(topk.view(), of_bare);
      b.route(topk.view(), of_listed);
      ASSERT_EQ(of_bare, of_listed) << policy;
    }
  }
}

// Invariants 4 and 6, on any placement: `optimal` is at most `home`, and equal to it when every
// expert is active. Its base has as few.
TEST(Homes, WithEveryExpertActiveHomeIsOptimal) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const LayerPlacement placement = bare_placement(seed);
    Rng rng(seed);
    const TopkBatch topk = test::random_topk(rng, placement.num_experts, 20, 4);
    ASSERT_LE(max_activated(placement, topk, "optimal"), max_activated(placement, topk, "home"));
    const TopkBatch all = every_expert(placement);
    const int least = max_activated(placement, all, "optimal");
    ASSERT_EQ(max_activated(placement, all, "home"), least) << "seed " << seed;

    const LayerPlacement own_homes = test::random_instance(seed).placement;
    const routing::ActivationSolver solver{ReplicaIndex(own_homes)};
    std::vector<std::int32_t> base;
    for (const Candidate& candidate : solver.base()) base.push_back(candidate.slot);
    ASSERT_EQ(most_homes(own_homes, base),
              test::oracle_max_activated(own_homes, every_expert(own_homes)));
  }
}

TEST(Homes, OfALoadAreExactTooAndNoFuller) {
  int better = 0;
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const LayerPlacement placement = bare_placement(seed);
    const std::vector<double> load = skewed_load(seed, placement.num_experts);
    const std::vector<std::int32_t> exact = find_homes(placement);
    const std::vector<std::int32_t> home = solve_homes(placement, load);
    expect_homes_hold_their_experts(placement, home);
    ASSERT_EQ(most_homes(placement, home), most_homes(placement, exact)) << "seed " << seed;
    const double before = most_load(placement, exact, load);
    const double after = most_load(placement, home, load);
    ASSERT_LE(after, before * (1 + 1e-12)) << "seed " << seed;
    better += after < 0.99 * before ? 1 : 0;
    ASSERT_EQ(solve_homes(placement, load), home);
  }
  EXPECT_GT(better, 500);
}

TEST(Homes, EveryAlgorithmWritesExactOnes) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    Rng rng(seed);
    const int gpus = 1 + static_cast<int>(rng.below(12));
    const int per_gpu = 2 + static_cast<int>(rng.below(8));
    const int experts =
        per_gpu + static_cast<int>(rng.below(static_cast<std::uint32_t>((gpus - 1) * per_gpu + 1)));
    const Loads loads{1, experts, skewed_load(seed, experts)};
    for (const PlacementAlgorithm& algorithm : placement_algorithms()) {
      const LayerPlacement layer =
          place(loads, {.num_replicas = gpus * per_gpu, .num_gpus = gpus}, algorithm.name)
              .layers[0];
      ASSERT_EQ(layer.home.size(), static_cast<std::size_t>(experts)) << algorithm.name;
      ASSERT_EQ(most_homes(layer, layer.home),
                test::oracle_max_activated(layer, every_expert(layer)))
          << algorithm.name << ", seed " << seed;
    }
  }
}

TEST(Homes, LoadsOfAnySizeArePlaced) {
  const LayerPlacement placement{3, 2, {0, 1, 2, 0, 1}, {0, 0, 0, 1, 1}, {}, {}};
  EXPECT_EQ(most_homes(placement, solve_homes(placement, std::vector<double>{1e308, 1e308, 1e308})),
            2);
  EXPECT_EQ(solve_homes(placement, std::vector<double>(3, 0.0)), find_homes(placement));
  EXPECT_THROW(solve_homes(placement, std::vector<double>(2, 0.0)), Error);
}

}  // namespace
}  // namespace metro
