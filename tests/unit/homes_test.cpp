// SPDX-License-Identifier: Apache-2.0
// The rule of docs/formats.md, step by step.
#include "core/homes.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "metro/homes.hpp"
#include "metro/placement.hpp"

namespace metro {
namespace {

using Slots = std::vector<std::int32_t>;

TEST(Homes, ExpertsWithoutAChoiceGoFirst) {
  // Expert 2 lives on GPU 0 alone; expert 0 would have taken it.
  const LayerPlacement placement{3, 2, {0, 1, 2, 0, 1}, {0, 0, 0, 1, 1}, {}, {}};
  EXPECT_EQ(find_homes(placement), (Slots{3, 1, 2}));
}

TEST(Homes, TiesGoToTheLowestGpuNotTheLowestSlot) {
  const LayerPlacement placement{1, 3, {0, 0}, {2, 1}, {}, {}};
  EXPECT_EQ(find_homes(placement), (Slots{1}));
}

TEST(Homes, TwoCopiesOnAGpuAreOneChoice) {
  // Expert 0 has three slots on two GPUs, expert 1 two slots on one: expert 1 goes first.
  const LayerPlacement placement{2, 2, {0, 0, 1, 1, 0}, {0, 0, 0, 0, 1}, {}, {}};
  EXPECT_EQ(find_homes(placement), (Slots{4, 2}));
}

TEST(Homes, AChainRelievesTheFullestGpu) {
  // The start gives GPUs 0, 0, 1, 2, 1 to experts 0 to 4 ...
  const LayerPlacement placement{
      5, 4, {0, 1, 0, 1, 2, 4, 2, 3, 4, 3}, {0, 0, 1, 1, 1, 1, 2, 2, 2, 3}, {}, {}};
  const Slots home = find_homes(placement);
  Slots gpus;
  for (const std::int32_t slot : home) {
    gpus.push_back(placement.replica_to_gpu[static_cast<std::size_t>(slot)]);
  }
  EXPECT_EQ(gpus, (Slots{0, 1, 2, 3, 1}));
}

// The first home of the fullest GPU that can go further does, and those behind it move up.
TEST(Homes, LevellingMovesTheFirstChainBreadthFirst) {
  // Experts 0, 1 on GPU 0; 1 may go to GPU 1, whose expert 2 may go to GPU 2, which is empty.
  const LayerPlacement placement{3, 3, {0, 1, 1, 2, 2}, {0, 0, 1, 1, 2}, {}, {}};
  EXPECT_EQ(level_homes(ReplicaIndex(placement), Slots{0, 1, 3}), (Slots{0, 2, 4}));
  EXPECT_EQ(level_homes(ReplicaIndex(placement), Slots{0, 2, 4}), (Slots{0, 2, 4}));
}

TEST(Homes, WhatCannotBeRelievedStays) {
  // Three experts on GPUs 0 and 1 alone: one has two of them, whatever GPU 2 has.
  const LayerPlacement placement{3, 3, {0, 1, 2, 0, 1, 2}, {0, 0, 0, 1, 1, 1}, {}, {}};
  EXPECT_EQ(find_homes(placement), (Slots{0, 4, 2}));
}

TEST(Homes, AListIsTakenAsItIs) {
  const LayerPlacement placement{2, 2, {0, 1, 0, 1}, {0, 0, 1, 1}, {2, 3}, {}};
  EXPECT_EQ(find_homes(placement), (Slots{2, 3}));
}

TEST(Homes, ManyExpertsAndGpusEndSoon) {
  // 65,536 experts with two GPUs each, on as many GPUs: a ring, levelled without a long search.
  LayerPlacement placement{kMaxExperts, kMaxGpus, {}, {}, {}, {}};
  for (std::int32_t e = 0; e < kMaxExperts; ++e) {
    for (const std::int32_t gpu : {e, (e + 1) % kMaxGpus}) {
      placement.replica_to_expert.push_back(e);
      placement.replica_to_gpu.push_back(gpu);
    }
  }
  const Slots home = find_homes(placement);
  EXPECT_EQ(home.front(), 0);
  EXPECT_EQ(home.back(), 2 * (kMaxExperts - 1));
}

}  // namespace
}  // namespace metro
