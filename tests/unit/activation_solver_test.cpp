// SPDX-License-Identifier: Apache-2.0
#include "routing/activation_solver.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/random_instance.hpp"

namespace metro::routing {
namespace {

TEST(ActivationSolver, StartsFromABalancedBase) {
  // EPLB-like homes: all first replicas on GPU 0, second copies elsewhere.
  const LayerPlacement crowded{4, 4, {0, 1, 2, 3, 1, 2, 3}, {0, 0, 0, 0, 1, 2, 3}, {}, {}};
  const ActivationSolver solver{ReplicaIndex(crowded)};
  std::vector<int> gpus;
  for (const Candidate& candidate : solver.base()) gpus.push_back(candidate.gpu);
  EXPECT_EQ(gpus, (std::vector<int>{0, 1, 2, 3}));
}

TEST(ActivationSolver, FindsPathsOverSeveralGpus) {
  // A chain: expert i may go to GPU i or i + 1, and two more experts crowd GPU 0.
  const LayerPlacement chain{6,  4, {0, 0, 1, 1, 2, 2, 3, 4, 5}, {0, 1, 1, 2, 2, 3, 0, 0, 0},
                             {}, {}};
  ActivationSolver solver{ReplicaIndex(chain)};
  std::vector<std::int32_t> slots(6);
  EXPECT_EQ(solver.solve(std::vector<std::uint8_t>{1, 1, 1, 1, 0, 0}, slots), 1);
  EXPECT_EQ(slots[0], 1);  // pushed to GPU 1, which pushes expert 1 to GPU 2, and so on
  EXPECT_EQ(slots[1], 3);
  EXPECT_EQ(slots[2], 5);
}

TEST(ActivationSolver, RaisesTheBoundWhereNoPathIsLeft) {
  // Three experts share GPUs 0 and 1, GPU 2 cannot help: 2 is optimal though ceil(3 / 3) is 1.
  const LayerPlacement pair{4, 3, {0, 0, 1, 1, 2, 2, 3}, {0, 1, 0, 1, 0, 1, 2}, {}, {}};
  ActivationSolver solver{ReplicaIndex(pair)};
  std::vector<std::int32_t> slots(4);
  EXPECT_EQ(solver.solve(std::vector<std::uint8_t>{1, 1, 1, 0}, slots), 2);
}

// What `solve` returns is what its slots say, for inactive experts too; solving again starts
// afresh.
TEST(ActivationSolver, ReturnsTheMaximumOfItsSlots) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const test::Instance instance = test::random_instance(seed);
    const LayerPlacement& placement = instance.placement;
    ActivationSolver solver{ReplicaIndex(placement)};
    Rng rng(seed);
    std::vector<std::int32_t> slots(static_cast<std::size_t>(placement.num_experts));
    for (int round = 0; round < 2; ++round) {
      std::vector<std::uint8_t> active;
      for (int e = 0; e < placement.num_experts; ++e) {
        active.push_back(static_cast<std::uint8_t>(rng.below(2)));
      }
      const int optimum = solver.solve(active, slots);
      std::vector<int> load(static_cast<std::size_t>(placement.num_gpus), 0);
      for (std::size_t e = 0; e < slots.size(); ++e) {
        const auto slot = static_cast<std::size_t>(slots[e]);
        ASSERT_EQ(placement.replica_to_expert[slot], static_cast<int>(e));
        load[static_cast<std::size_t>(placement.replica_to_gpu[slot])] += active[e];
      }
      ASSERT_EQ(std::ranges::max(load), optimum) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace metro::routing
