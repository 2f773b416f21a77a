// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "metro/error.hpp"
#include "metro/placer.hpp"

namespace metro {
namespace {

std::vector<double> gpu_loads(const LayerPlacement& placement, const std::vector<double>& shares,
                              const std::vector<double>& load) {
  std::vector<double> loads(static_cast<std::size_t>(placement.num_gpus), 0.0);
  for (std::size_t slot = 0; slot < shares.size(); ++slot) {
    loads[static_cast<std::size_t>(placement.replica_to_gpu[slot])] +=
        shares[slot] * load[static_cast<std::size_t>(placement.replica_to_expert[slot])];
  }
  return loads;
}

TEST(Shares, AnExpertFillsUpTheLessLoadedGpu) {
  // GPU 0: experts 0, 1; GPU 1: experts 0, 2. Expert 0's 6 tokens bring both to 6.
  const LayerPlacement placement{3, 2, {0, 1, 0, 2}, {0, 0, 1, 1}, {}, {}};
  const std::vector<double> shares = solve_shares(placement, std::vector<double>{6, 4, 2});
  EXPECT_NEAR(shares[0], 2.0 / 6, 1e-9);
  EXPECT_NEAR(shares[2], 4.0 / 6, 1e-9);
  EXPECT_EQ(shares[1], 1.0);
  EXPECT_EQ(shares[3], 1.0);
}

TEST(Shares, NothingGoesToAGpuThatIsFullAnyway) {
  const LayerPlacement placement{3, 2, {0, 1, 0, 2}, {0, 0, 1, 1}, {}, {}};
  EXPECT_EQ(solve_shares(placement, std::vector<double>{1, 9, 2}),
            (std::vector<double>{0, 1, 1, 1}));
}

TEST(Shares, CopiesOnOneGpuShareEqually) {
  // Expert 0: two copies on GPU 0, one on GPU 1, nothing else there.
  const LayerPlacement placement{1, 2, {0, 0, 0}, {0, 0, 1}, {}, {}};
  const std::vector<double> shares = solve_shares(placement, std::vector<double>{10});
  EXPECT_NEAR(shares[0], 0.25, 1e-9);
  EXPECT_NEAR(shares[1], 0.25, 1e-9);
  EXPECT_NEAR(shares[2], 0.5, 1e-9);
}

TEST(Shares, AnIdleExpertIsSplitEqually) {
  const LayerPlacement placement{2, 2, {0, 0, 0, 1}, {0, 0, 1, 1}, {}, {}};
  const std::vector<double> shares = solve_shares(placement, std::vector<double>{0, 5});
  for (std::size_t slot = 0; slot < 3; ++slot) EXPECT_DOUBLE_EQ(shares[slot], 1.0 / 3);
  EXPECT_EQ(solve_shares(placement, std::vector<double>{0, 0}), shares);
}

// Neighbours share an expert, and the ends start with half the load: slow for any local rule.
TEST(Shares, AChainOfGpusIsLevelled) {
  constexpr int kGpus = 64;
  LayerPlacement placement{kGpus - 1, kGpus, {}, {}, {}, {}};
  for (int e = 0; e < kGpus - 1; ++e) {
    for (const int gpu : {kGpus - 2 - e, kGpus - 1 - e}) {
      placement.replica_to_expert.push_back(e);
      placement.replica_to_gpu.push_back(gpu);
    }
  }
  const std::vector<double> load(kGpus - 1, 64.0 / 63);
  const auto loads = gpu_loads(placement, solve_shares(placement, load), load);
  for (const double tokens : loads) EXPECT_NEAR(tokens, 1.0, 1e-6);
}

TEST(Shares, ALoadLostInRoundingKeepsItsReplicas) {
  // Expert 0 is on all three GPUs, each of which has 1e30 times its load.
  LayerPlacement placement{4, 3, {0, 0, 0, 1, 2, 3}, {0, 1, 2, 0, 1, 2}, {}, {}};
  placement.shares = solve_shares(placement, std::vector<double>{1, 3e30, 2e30, 2e30});
  EXPECT_NO_THROW(placement.validate());
}

TEST(Shares, HugeLoadsDoNotOverflow) {
  const LayerPlacement placement{2, 2, {0, 0, 1, 1}, {0, 1, 0, 1}, {}, {}};
  for (const double share : solve_shares(placement, std::vector<double>{1.5e308, 1.5e308})) {
    EXPECT_NEAR(share, 0.5, 1e-9);
  }
}

TEST(Shares, LoadMustFitThePlacement) {
  const LayerPlacement placement{2, 1, {0, 1}, {0, 0}, {}, {}};
  EXPECT_THROW(solve_shares(placement, std::vector<double>{1, 2, 3}), Error);
}

}  // namespace
}  // namespace metro
