// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/rng.hpp"
#include "metro/placer.hpp"

namespace metro {
namespace {

std::vector<std::int32_t> eplb_slots(std::span<const double> load,
                                     const PlacementRequest& request) {
  return find_placement_algorithm("eplb")->place_layer(load, request).replica_to_expert;
}

nlohmann::json golden() {
  std::ifstream file(METRO_SOURCE_DIR "/tests/golden/eplb_golden.json");
  return nlohmann::json::parse(file);
}

std::uint64_t fnv1a(std::span<const std::int32_t> values) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const std::int32_t value : values) {
    hash = (hash ^ static_cast<std::uint64_t>(value)) * std::uint64_t{0x100000001b3};
  }
  return hash;
}

// The example that EPLB's own README publishes.
TEST(EplbGolden, PublishedExample) {
  const Loads loads{2, 12, {90, 132, 40,  61, 104, 165, 39,  4,   73,  56, 183, 86,
                            20, 107, 104, 64, 19,  197, 187, 157, 172, 86, 16,  27}};
  const Placement placement =
      place(loads, {.num_replicas = 16, .num_gpus = 8, .num_groups = 4, .num_nodes = 2}, "eplb");
  EXPECT_EQ(placement.layers[0].replica_to_expert,
            (std::vector<std::int32_t>{5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1}));
  EXPECT_EQ(placement.layers[1].replica_to_expert,
            (std::vector<std::int32_t>{7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1}));
  EXPECT_EQ(placement.layers[0].replica_to_gpu, contiguous_gpus(16, 8));
  EXPECT_TRUE(placement.layers[0].home.empty());
}

// make_eplb_golden.py worked these out: ties, zeros, float32 rounding, both policies.
TEST(EplbGolden, ReferenceCases) {
  const nlohmann::json cases = golden().at("cases");
  ASSERT_GT(cases.size(), 100U);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto shape = cases[i].at("shape").get<std::vector<int>>();
    const auto load = cases[i].at("load").get<std::vector<double>>();
    EXPECT_EQ(eplb_slots(load, {.num_replicas = shape[1],
                                .num_gpus = shape[4],
                                .num_groups = shape[2],
                                .num_nodes = shape[3]}),
              cases[i].at("slots").get<std::vector<std::int32_t>>())
        << "case " << i << ", " << cases[i].at("kind");
  }
}

TEST(EplbGolden, DeepSeekV3Size) {
  const nlohmann::json runs = golden().at("large");
  ASSERT_EQ(runs.size(), 2U);
  for (const auto& run : runs) {
    Rng rng(58);
    const auto hashes = run.at("hashes").get<std::vector<std::string>>();
    ASSERT_EQ(hashes.size(), 58U);
    for (const std::string& hash : hashes) {
      std::vector<double> load(256);
      for (double& tokens : load) tokens = rng.below(1000);
      const auto slots = eplb_slots(load, {.num_replicas = 320,
                                           .num_gpus = 32,
                                           .num_groups = run.at("groups").get<int>(),
                                           .num_nodes = run.at("nodes").get<int>()});
      EXPECT_EQ(fmt::format("{:016x}", fnv1a(slots)), hash);
    }
  }
}

}  // namespace
}  // namespace metro
