// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/rng.hpp"
#include "metro/placer.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

std::vector<double> random_load(Rng& rng, int num_experts) {
  std::vector<double> load(static_cast<std::size_t>(num_experts));
  const std::uint32_t kind = rng.below(4);
  for (double& tokens : load) {
    switch (kind) {
      case 0:
        tokens = rng.below(4);
        break;  // ties
      case 1:
        tokens = rng.below(4) == 0 ? 1000.0 * rng.uniform() : 0;
        break;  // mostly idle
      case 2:
        tokens = std::exp(8 * rng.uniform());
        break;  // skewed
      default:
        tokens = 0;
        break;
    }
  }
  if (rng.below(5) == 0) load[rng.below(static_cast<std::uint32_t>(num_experts))] = 1e9;  // a giant
  return load;
}

struct Case {
  std::vector<double> load;
  PlacementRequest request;
};

/// Any request that every algorithm can meet.
Case random_case(std::uint64_t seed) {
  Rng rng(seed);
  const int num_experts = 1 + static_cast<int>(rng.below(40));
  const int num_gpus = 1 + static_cast<int>(rng.below(12));
  const int fewest = (num_experts + num_gpus - 1) / num_gpus;
  const int per_gpu =
      fewest + static_cast<int>(rng.below(static_cast<std::uint32_t>(num_experts - fewest + 1)));
  return {random_load(rng, num_experts),
          {.num_replicas = per_gpu * num_gpus, .num_gpus = num_gpus}};
}

std::vector<double> gpu_loads(const LayerPlacement& placement, const std::vector<double>& shares,
                              const std::vector<double>& load) {
  std::vector<double> loads(static_cast<std::size_t>(placement.num_gpus), 0.0);
  for (std::size_t slot = 0; slot < shares.size(); ++slot) {
    loads[static_cast<std::size_t>(placement.replica_to_gpu[slot])] +=
        shares[slot] * load[static_cast<std::size_t>(placement.replica_to_expert[slot])];
  }
  return loads;
}

/// The least possible maximum by Hall's condition: for every set of GPUs, the tokens that can go
/// nowhere else over the size of the set.
double oracle_max_load(const LayerPlacement& placement, const std::vector<double>& load) {
  std::vector<std::uint32_t> hosts(load.size(), 0);
  for (std::size_t slot = 0; slot < placement.replica_to_expert.size(); ++slot) {
    hosts[static_cast<std::size_t>(placement.replica_to_expert[slot])] |=
        1U << placement.replica_to_gpu[slot];
  }
  double most = 0;
  for (std::uint32_t set = 1; set < 1U << placement.num_gpus; ++set) {
    double confined = 0;
    for (std::size_t e = 0; e < load.size(); ++e) {
      if ((hosts[e] & ~set) == 0) confined += load[e];
    }
    most = std::max(most, confined / __builtin_popcount(set));
  }
  return most;
}

RC_GTEST_PROP(PlacementProperty, EveryAlgorithmGivesAValidPlacementOfEqualSlots,
              (std::uint64_t seed)) {
  const Case c = random_case(seed);
  for (const PlacementAlgorithm& algorithm : placement_algorithms()) {
    const LayerPlacement placement = algorithm.place_layer(c.load, c.request);
    placement.validate();
    RC_ASSERT(placement.replica_to_gpu ==
              contiguous_gpus(c.request.num_replicas, c.request.num_gpus));
    RC_ASSERT(placement == algorithm.place_layer(c.load, c.request));
  }
}

// Invariant 6: the homes alone serve any batch with at most ceil(E/G) experts on each GPU.
RC_GTEST_PROP(PlacementProperty, HomedGivesEveryGpuItsShareOfHomes, (std::uint64_t seed)) {
  const Case c = random_case(seed);
  const LayerPlacement placement =
      find_placement_algorithm("homed")->place_layer(c.load, c.request);
  const auto experts = static_cast<int>(c.load.size());
  std::vector<int> homes(static_cast<std::size_t>(c.request.num_gpus), 0);
  for (const std::int32_t slot : placement.home) {
    ++homes[static_cast<std::size_t>(placement.replica_to_gpu[static_cast<std::size_t>(slot)])];
  }
  RC_ASSERT(std::ranges::max(homes) == (experts + c.request.num_gpus - 1) / c.request.num_gpus);
  RC_ASSERT(std::ranges::min(homes) == experts / c.request.num_gpus);
}

RC_GTEST_PROP(PlacementProperty, HomedPutsNoExpertTwiceOnAGpuAndItsHomesFirst,
              (std::uint64_t seed)) {
  const Case c = random_case(seed);
  const LayerPlacement placement =
      find_placement_algorithm("homed")->place_layer(c.load, c.request);
  const int per_gpu = c.request.num_replicas / c.request.num_gpus;
  for (int gpu = 0; gpu < c.request.num_gpus; ++gpu) {
    std::vector<bool> seen(c.load.size(), false);
    bool extras = false;
    for (int slot = gpu * per_gpu; slot < (gpu + 1) * per_gpu; ++slot) {
      const auto expert =
          static_cast<std::size_t>(placement.replica_to_expert[static_cast<std::size_t>(slot)]);
      RC_ASSERT(!seen[expert]);
      seen[expert] = true;
      const bool is_home = placement.home[expert] == slot;
      RC_ASSERT(!(extras && is_home));
      extras = extras || !is_home;
    }
  }
}

// Unless the only free slots are beside its home, as where GPUs do not divide experts.
RC_GTEST_PROP(PlacementProperty, HomedCopiesTheHottestExpertFirst, (std::uint64_t seed)) {
  const Case c = random_case(seed);
  const LayerPlacement placement =
      find_placement_algorithm("homed")->place_layer(c.load, c.request);
  const auto hottest = static_cast<std::size_t>(std::ranges::max_element(c.load) - c.load.begin());
  const auto gpu_of = [&](std::int32_t slot) {
    return placement.replica_to_gpu[static_cast<std::size_t>(slot)];
  };
  int copies = 0;
  int extras_elsewhere = 0;
  for (std::int32_t slot = 0; slot < placement.num_replicas(); ++slot) {
    const auto expert =
        static_cast<std::size_t>(placement.replica_to_expert[static_cast<std::size_t>(slot)]);
    copies += expert == hottest ? 1 : 0;
    const bool elsewhere = gpu_of(slot) != gpu_of(placement.home[hottest]);
    extras_elsewhere += elsewhere && placement.home[expert] != slot ? 1 : 0;
  }
  RC_ASSERT(extras_elsewhere == 0 || copies >= 2);
}

RC_GTEST_PROP(SharesProperty, MaximumEqualsTheOracle, (std::uint64_t seed)) {
  Rng rng(seed);
  const int num_experts = 1 + static_cast<int>(rng.below(30));
  const int num_gpus = 1 + static_cast<int>(rng.below(10));
  LayerPlacement placement = test::random_placement(rng, num_experts, num_gpus);
  const std::vector<double> load = random_load(rng, num_experts);
  placement.shares = solve_shares(placement, load);
  placement.validate();
  const double oracle = oracle_max_load(placement, load);
  const double most = std::ranges::max(gpu_loads(placement, placement.shares, load));
  RC_ASSERT(std::abs(most - oracle) <= 1e-6 * oracle);
}

// Optimality of every GPU's load, not just the largest, and at sizes no oracle enumerates: no
// expert has tokens on a GPU that is more loaded than another of its GPUs. Shares sum to 1.
RC_GTEST_PROP(SharesProperty, NoTokenCouldMoveToALessLoadedGpu, (std::uint64_t seed)) {
  Rng rng(seed);
  LayerPlacement placement = test::random_placement(rng, 1 + static_cast<int>(rng.below(200)),
                                                    1 + static_cast<int>(rng.below(64)));
  const std::vector<double> load = random_load(rng, placement.num_experts);
  const std::vector<double> shares = solve_shares(placement, load);
  const std::vector<double> loads = gpu_loads(placement, shares, load);
  double total = 0;
  for (const double tokens : load) total += tokens;
  std::vector<double> lowest(load.size(), total);
  std::vector<double> highest(load.size(), 0);
  std::vector<double> sum(load.size(), 0);
  for (std::size_t slot = 0; slot < shares.size(); ++slot) {
    const auto e = static_cast<std::size_t>(placement.replica_to_expert[slot]);
    const double on_gpu = loads[static_cast<std::size_t>(placement.replica_to_gpu[slot])];
    lowest[e] = std::min(lowest[e], on_gpu);
    if (shares[slot] > 0) highest[e] = std::max(highest[e], on_gpu);
    sum[e] += shares[slot];
  }
  for (std::size_t e = 0; e < load.size(); ++e) {
    RC_ASSERT(std::abs(sum[e] - 1) <= 1e-9);
    if (load[e] > 0) RC_ASSERT(highest[e] - lowest[e] <= 1e-6 * total / placement.num_gpus);
  }
}

}  // namespace
}  // namespace metro
