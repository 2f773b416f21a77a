// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "metro/error.hpp"
#include "metro/placer.hpp"

namespace metro {
namespace {

LayerPlacement place_one(const std::vector<double>& load, const PlacementRequest& request,
                         std::string_view algorithm) {
  return place({1, static_cast<int>(load.size()), load}, request, algorithm).layers[0];
}

struct Failure {
  ErrorCode code{};
  std::string message;
};

Failure failure(const std::vector<double>& load, const PlacementRequest& request,
                std::string_view algorithm) {
  try {
    place_one(load, request, algorithm);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {{}, "no error"};
}

const std::vector<double> kTwelve{90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86};

TEST(ReplicasFor, RoundsUpToTheGpusWithoutFloatingPointSlips) {
  EXPECT_EQ(replicas_for(160, 1.1, 8), 176);
  EXPECT_EQ(replicas_for(256, 1.125, 16), 288);
  EXPECT_EQ(replicas_for(64, 1.01, 8), 72);
  EXPECT_EQ(replicas_for(100, 1.0, 8), 104);
  EXPECT_EQ(replicas_for(8, 1.0, 16), 16);
  // In tenths, where whole numbers tell the truth.
  for (int experts = 1; experts <= 400; ++experts) {
    for (int tenths = 10; tenths <= 30; ++tenths) {
      const int gpus = 8;
      const int expected = (experts * tenths + 10 * gpus - 1) / (10 * gpus) * gpus;
      ASSERT_EQ(replicas_for(experts, tenths / 10.0, gpus), expected) << experts << " " << tenths;
    }
  }
  EXPECT_THROW(replicas_for(65536, 1e6, 8), Error);
}

TEST(PlacementAlgorithms, AreFoundByName) {
  for (const PlacementAlgorithm& algorithm : placement_algorithms()) {
    EXPECT_EQ(find_placement_algorithm(algorithm.name), &algorithm);
    EXPECT_FALSE(algorithm.rule.empty());
  }
  EXPECT_NE(find_placement_algorithm("eplb"), nullptr);
  EXPECT_NE(find_placement_algorithm("homed"), nullptr);
  EXPECT_NE(find_placement_algorithm("contiguous"), nullptr);
  EXPECT_EQ(find_placement_algorithm("EPLB"), nullptr);
}

TEST(PlacementAlgorithms, UnknownNameListsTheKnownOnes) {
  const Failure f = failure(kTwelve, {.num_replicas = 16, .num_gpus = 8}, "best");
  EXPECT_EQ(f.code, ErrorCode::kUsage);
  EXPECT_EQ(f.message, "algorithm is 'best', must be one of eplb, contiguous, homed");
}

TEST(PlacementAlgorithms, CountsBelowOneAreUsageErrors) {
  for (const PlacementAlgorithm& a : placement_algorithms()) {
    for (const PlacementRequest& bad :
         {PlacementRequest{0, 4}, PlacementRequest{16, 0}, PlacementRequest{16, 4, 0},
          PlacementRequest{16, 4, 1, -1}, PlacementRequest{kMaxReplicas + 1, 1}}) {
      EXPECT_EQ(failure(kTwelve, bad, a.name).code, ErrorCode::kUsage) << a.name;
    }
  }
}

TEST(PlacementAlgorithms, ImpossibleCountsAreInfeasible) {
  for (const PlacementAlgorithm& a : placement_algorithms()) {
    Failure f = failure(kTwelve, {.num_replicas = 8, .num_gpus = 4}, a.name);
    EXPECT_EQ(f.code, ErrorCode::kInfeasible);
    EXPECT_EQ(f.message, "8 replicas cannot hold 12 experts, every expert needs at least one");
    f = failure(kTwelve, {.num_replicas = 18, .num_gpus = 4}, a.name);
    EXPECT_EQ(f.code, ErrorCode::kInfeasible);
    EXPECT_EQ(f.message,
              "18 replicas cannot be shared out equally over 4 GPUs, must be a multiple of 4");
  }
}

TEST(PlacementAlgorithms, TheLargestPlacementsTakeSeconds) {
  // Few experts: hundreds of thousands of copies of each, and as many on a GPU.
  for (const int num_gpus : {1, kMaxGpus}) {
    const Loads loads{1, 3, {5, 0, 1}};
    const PlacementRequest request{.num_replicas = kMaxReplicas, .num_gpus = num_gpus};
    EXPECT_EQ(place(loads, request, "eplb").layers[0].num_replicas(), kMaxReplicas);
    EXPECT_EQ(place(loads, request, "contiguous").layers[0].num_replicas(), kMaxReplicas);
  }
  const std::vector<double> load(kMaxExperts, 1);
  const Failure f = failure(load, {.num_replicas = kMaxReplicas, .num_gpus = kMaxGpus}, "homed");
  EXPECT_EQ(f.code, ErrorCode::kInfeasible);
  EXPECT_EQ(f.message,
            "homed weighs each of 65536 GPUs for each of 983040 extra replicas, must be at most "
            "268435456 in all; eplb has no such limit");
}

TEST(PlacementAlgorithms, BadLoadsAreInputErrors) {
  EXPECT_EQ(failure({1, -1}, {.num_replicas = 2, .num_gpus = 1}, "eplb").code, ErrorCode::kInput);
  EXPECT_THROW(place({0, 0, {}}, {.num_replicas = 2, .num_gpus = 1}, "eplb"), Error);
  for (const PlacementAlgorithm& a : placement_algorithms()) {
    EXPECT_THROW(a.place_layer({}, {.num_replicas = 2, .num_gpus = 1}), Error);
  }
}

TEST(PlacementAlgorithms, EveryLayerIsPlacedForItsOwnLoad) {
  const Loads loads{2, 4, {9, 1, 1, 1, 1, 1, 1, 9}};
  for (const PlacementAlgorithm& a : placement_algorithms()) {
    const Placement placement = place(loads, {.num_replicas = 6, .num_gpus = 2}, a.name);
    ASSERT_EQ(placement.layers.size(), 2U);
    EXPECT_NO_THROW(placement.validate()) << a.name;
    for (const LayerPlacement& layer : placement.layers) {
      EXPECT_EQ(layer.shares.size(), 6U);
      EXPECT_EQ(layer.replica_to_gpu, contiguous_gpus(6, 2));
    }
  }
}

TEST(Eplb, GroupsAndNodesMustFit) {
  Failure f = failure(kTwelve, {16, 8, 5, 1}, "eplb");
  EXPECT_EQ(f.code, ErrorCode::kInfeasible);
  EXPECT_EQ(f.message, "12 experts cannot be split equally into 5 groups, must be a multiple of 5");
  f = failure(kTwelve, {16, 8, 3, 3}, "eplb");
  EXPECT_EQ(f.code, ErrorCode::kInfeasible);
  EXPECT_EQ(f.message, "8 GPUs cannot be split equally into 3 nodes, must be a multiple of 3");
}

TEST(Eplb, GroupsThatNodesDoNotDivideSelectTheGlobalPolicy) {
  EXPECT_EQ(place_one(kTwelve, {16, 8, 3, 2}, "eplb"), place_one(kTwelve, {16, 8, 1, 1}, "eplb"));
  EXPECT_NE(place_one(kTwelve, {16, 8, 4, 2}, "eplb"), place_one(kTwelve, {16, 8, 1, 1}, "eplb"));
}

TEST(Eplb, MayPutTwoReplicasOfAnExpertOnOneGpu) {
  const LayerPlacement layer = place_one({100, 1}, {.num_replicas = 4, .num_gpus = 1}, "eplb");
  EXPECT_EQ(layer.replica_to_expert, (std::vector<std::int32_t>{0, 0, 0, 1}));
}

TEST(Eplb, LoadsBeyondFloatRangeArePlaced) {
  const LayerPlacement layer =
      place_one({1e300, 1e308, 0, 1}, {.num_replicas = 8, .num_gpus = 2}, "eplb");
  EXPECT_NO_THROW(layer.validate());
}

TEST(Contiguous, SlotHoldsItsNumberModuloExperts) {
  const LayerPlacement layer =
      place_one({5, 0, 9, 1}, {.num_replicas = 6, .num_gpus = 3}, "contiguous");
  EXPECT_EQ(layer.replica_to_expert, (std::vector<std::int32_t>{0, 1, 2, 3, 0, 1}));
  // GPUs 0 to 2 hold {0, 1}, {2, 3}, {0, 1}: 1 leaves GPU 0, and no GPU has more than 2 homes.
  EXPECT_EQ(layer.home.size(), 4U);
}

TEST(Homed, HotExpertsGetTheirSecondCopyElsewhere) {
  const LayerPlacement layer = place_one({1, 8, 2, 9}, {.num_replicas = 6, .num_gpus = 2}, "homed");
  // Homes 9 + 1 and 8 + 2, then the hottest of each GPU on the other.
  EXPECT_EQ(layer.replica_to_expert, (std::vector<std::int32_t>{3, 0, 1, 1, 2, 3}));
  EXPECT_EQ(layer.home, (std::vector<std::int32_t>{1, 3, 4, 0}));
}

TEST(Homed, WithoutSpareSlotsItIsEplb) {
  LayerPlacement homed = place_one(kTwelve, {.num_replicas = 12, .num_gpus = 4}, "homed");
  EXPECT_EQ(homed.replica_to_expert,
            place_one(kTwelve, {.num_replicas = 12, .num_gpus = 4}, "eplb").replica_to_expert);
}

TEST(Homed, NoExpertTwiceOnAGpu) {
  const Failure f = failure(kTwelve, {.num_replicas = 16, .num_gpus = 1}, "homed");
  EXPECT_EQ(f.code, ErrorCode::kInfeasible);
  EXPECT_EQ(f.message,
            "16 replicas put some expert twice on a GPU, must be at most 12 (12 experts x 1 GPUs)");
  // All experts on all GPUs: the most there can be.
  EXPECT_NO_THROW(place_one(kTwelve, {.num_replicas = 36, .num_gpus = 3}, "homed").validate());
}

TEST(Homed, MoreGpusThanExperts) {
  const LayerPlacement layer = place_one({3, 1, 2}, {.num_replicas = 5, .num_gpus = 5}, "homed");
  // Five GPUs of one slot: a home each on three of them, copies of the two hottest on the rest.
  std::vector<std::int32_t> copies(3, 0);
  for (const std::int32_t expert : layer.replica_to_expert) {
    ++copies[static_cast<std::size_t>(expert)];
  }
  EXPECT_EQ(copies, (std::vector<std::int32_t>{2, 1, 2}));
}

TEST(Homed, HugeLoadsDoNotOverflow) {
  const LayerPlacement layer =
      place_one({1e308, 1e308, 1e308, 1e308, 1, 0}, {.num_replicas = 9, .num_gpus = 3}, "homed");
  EXPECT_NO_THROW(layer.validate());
}

}  // namespace
}  // namespace metro
