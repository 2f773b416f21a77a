// SPDX-License-Identifier: Apache-2.0
// The rules by which a kernel serves an engine's maps, on the CPU.
#include "cuda/engine_rule.hpp"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "gpu/engine_reference.hpp"
#include "support/random_instance.hpp"

namespace metro::cuda {
namespace {

/// The table that a kernel of `optimal` reads.
struct Table {
  explicit Table(const LayerPlacement& placement)
      : layout(table_layout(DevicePolicy::kOptimal, placement.num_experts, placement.num_gpus,
                            placement.num_replicas())),
        words(static_cast<std::size_t>(layout.total_words)) {
    build_layer_table(placement, DevicePolicy::kOptimal, layout, words);
  }
  TableLayout layout;
  std::vector<std::uint32_t> words;
};

TEST(EngineRule, AgreesWithThePlacementThatItWasToldOf) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const LayerPlacement placement = test::random_instance(seed).placement;
    Rng rng(seed);
    const Table table(placement);
    const test::EngineTables engine(placement, rng);
    for (int e = 0; e < placement.num_experts; ++e) {
      EXPECT_TRUE(agrees(engine.on_host(), table.layout, table.words.data(), e));
    }
  }
}

TEST(EngineRule, SeesEachCandidateThatTheEngineDoesNotList) {
  int seen = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const LayerPlacement placement = test::random_instance(seed).placement;
    Rng rng(seed);
    const Table table(placement);
    const test::EngineTables engine(placement, rng);
    const ReplicaIndex index(placement);
    for (int e = 0; e < placement.num_experts; ++e) {
      for (const Candidate& candidate : index.candidates(e)) {
        test::EngineTables other = engine;
        std::ranges::replace(other.rows, candidate.slot, std::int64_t{-1});
        for (int o = 0; o < placement.num_experts; ++o) {
          EXPECT_EQ(agrees(other.on_host(), table.layout, table.words.data(), o), o != e);
        }
        // It is there, behind what counts: of a longer list of before.
        other = engine;
        other.counts[static_cast<std::size_t>(e)] = 0;
        EXPECT_FALSE(agrees(other.on_host(), table.layout, table.words.data(), e));
        ++seen;
      }
    }
  }
  EXPECT_GT(seen, 1000);
}

TEST(EngineRule, HashesAsTheRouterDoes) {
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const test::Instance instance = test::random_instance(seed);
    Rng rng(seed);
    test::EngineTables engine(instance.placement, rng);
    // By slot, as the policy lists them.
    for (int e = 0; e < instance.placement.num_experts; ++e) {
      const auto begin = engine.rows.begin() + e * engine.row_stride;
      std::sort(begin, begin + engine.counts[static_cast<std::size_t>(e)]);
    }
    std::vector<std::int32_t> expected(instance.topk.ids.size());
    Router(instance.placement, "hash").route(instance.topk.view(), expected);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] < 0) continue;
      const auto row =
          static_cast<std::uint32_t>(i) / static_cast<std::uint32_t>(instance.topk.topk);
      EXPECT_EQ(hashed_replica(engine.on_host(), instance.topk.ids[i], row), expected[i]);
    }
  }
  const std::int64_t none = 0;
  EngineMaps empty;
  empty.num_replicas_of = &none;
  EXPECT_EQ(hashed_replica(empty, 0, 3), -1);
}

TEST(EngineRule, PaddedRowsRepeatValidOnes) {
  EXPECT_EQ(source_row(2, 3), 2);
  EXPECT_EQ(source_row(3, 3), 0);
  EXPECT_EQ(source_row(7, 3), 1);
  EXPECT_EQ(source_row(7, 0), 7);
}

TEST(EngineRule, ChecksumsTellChoicesApart) {
  std::set<std::uint64_t> terms;
  std::set<std::uint64_t> pairs;  // two ids: sums must not cancel
  for (int index = 0; index < 64; ++index) {
    for (std::int64_t slot = -1; slot < 64; ++slot) {
      terms.insert(checksum_term(index, slot));
      pairs.insert(checksum_term(0, slot) + checksum_term(1, index));
    }
  }
  EXPECT_EQ(terms.size(), 64U * 65U);
  EXPECT_EQ(pairs.size(), 64U * 65U);
}

}  // namespace
}  // namespace metro::cuda
