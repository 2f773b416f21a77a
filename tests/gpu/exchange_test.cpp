// SPDX-License-Identifier: Apache-2.0
// Ranks that know only their own tokens: one GPU, one stream per rank, all kernels at once.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gpu/device_test.hpp"
#include "metro/cuda/router.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

using std::chrono::milliseconds;

constexpr int kExperts = 64;
constexpr int kGpus = 8;
constexpr int kTopk = 4;
constexpr int kMaxTokens = 5000;

std::vector<std::int32_t> cpu_answer(const LayerPlacement& placement, std::string_view policy,
                                     const TopkBatch& topk) {
  std::vector<std::int32_t> ids(topk.ids.size());
  Router(placement, policy).route(topk.view(), ids);
  return ids;
}

/// One rank, with its own router.
struct Rank {
  Rank(const Placement& placement, std::string_view policy, int rank, int num_ranks,
       milliseconds timeout)
      : router(placement, {.policy = policy,
                           .max_tokens = kMaxTokens,
                           .topk = kTopk,
                           .max_replicas = 3 * kExperts}),
        exchange(rank, num_ranks, timeout) {}

  void start(const TopkBatch& batch) {
    topk = batch;
    ids.fill(topk.ids);
    cuda::RouteExtras extras;
    extras.exchange = &exchange;
    extras.tokens_per_rank = tokens_per_rank.data();
    router.route(0, ids.data(), topk.num_tokens, ids.data(), stream, extras);
  }
  std::vector<std::int32_t> finish() {
    stream.wait();
    auto all = ids.read();
    all.resize(topk.ids.size());
    return all;
  }

  cuda::Router router;
  cuda::PeerExchange exchange;
  test::Stream stream;
  test::DeviceVector<std::int32_t> ids{std::size_t{kMaxTokens} * kTopk};
  test::DeviceVector<std::int32_t> tokens_per_rank{64};
  TopkBatch topk;
};

struct World {
  World(const Placement& placement, std::string_view policy, int num_ranks,
        milliseconds timeout = milliseconds(2000)) {
    std::vector<cuda::PeerHandle> handles;
    for (int r = 0; r < num_ranks; ++r) {
      ranks.push_back(std::make_unique<Rank>(placement, policy, r, num_ranks, timeout));
      handles.push_back(ranks.back()->exchange.handle());
    }
    for (const auto& rank : ranks) rank->exchange.connect(handles);
  }
  std::vector<std::unique_ptr<Rank>> ranks;
};

/// Every rank's batch, the last rank's empty, and all of them in one.
struct Batches {
  Batches(Rng& rng, int num_ranks, int max_tokens) : whole{{}, 0, kTopk} {
    for (int r = 0; r < num_ranks; ++r) {
      const bool idle = r > 0 && r == num_ranks - 1;
      const int tokens =
          idle ? 0 : 1 + static_cast<int>(rng.below(static_cast<std::uint32_t>(max_tokens)));
      parts.push_back(test::random_topk(rng, kExperts, tokens, kTopk));
      whole.ids.insert(whole.ids.end(), parts.back().ids.begin(), parts.back().ids.end());
      whole.num_tokens += tokens;
    }
  }
  std::vector<TopkBatch> parts;
  TopkBatch whole;
};

void expect_global_answer(World& world, const Placement& placement, std::string_view policy,
                          Rng& rng, int max_tokens) {
  const int num_ranks = static_cast<int>(world.ranks.size());
  const Batches batches(rng, num_ranks, max_tokens);
  const auto expected = cpu_answer(placement.layers[0], policy, batches.whole);
  for (std::size_t r = 0; r < world.ranks.size(); ++r) world.ranks[r]->start(batches.parts[r]);
  std::size_t offset = 0;
  for (std::size_t r = 0; r < world.ranks.size(); ++r) {
    const auto answer = world.ranks[r]->finish();
    const std::vector<std::int32_t> slice(
        expected.begin() + static_cast<std::ptrdiff_t>(offset),
        expected.begin() + static_cast<std::ptrdiff_t>(offset + answer.size()));
    ASSERT_EQ(answer, slice) << num_ranks << " ranks, rank " << r;
    offset += answer.size();
    const auto tokens = world.ranks[r]->tokens_per_rank.read();
    for (std::size_t peer = 0; peer < batches.parts.size(); ++peer) {
      ASSERT_EQ(tokens[peer], batches.parts[peer].num_tokens);
    }
  }
}

class Exchanged : public test::DeviceTest {
 protected:
  Rng rng_{21};
  Placement placement_{kExperts, kGpus, {test::random_placement(rng_, kExperts, kGpus)}};
};

TEST_F(Exchanged, RanksRouteAsTheWholeBatchWould) {
  for (const int num_ranks : {1, 2, 4, 8}) {
    for (const char* policy : {"optimal", "metro"}) {
      World world(placement_, policy, num_ranks);
      for (int step = 0; step < 40; ++step) {
        expect_global_answer(world, placement_, policy, rng_, 12);
      }
      EXPECT_EQ(world.ranks[0]->exchange.counters().fallbacks, 0U);
    }
  }
}

TEST_F(Exchanged, LargeBatchesExchangeBetweenKernels) {
  World world(placement_, "optimal", 2);
  for (int step = 0; step < 6; ++step) {
    expect_global_answer(world, placement_, "optimal", rng_, step % 2 == 0 ? kMaxTokens : 10);
  }
}

TEST_F(Exchanged, AllRanksGoHomeWhileOneHasAnotherPlacement) {
  World world(placement_, "optimal", 4);
  Placement next = placement_;
  next.layers[0] = test::random_placement(rng_, kExperts, kGpus);
  world.ranks[2]->router.update(0, next.layers[0], world.ranks[2]->stream);
  for (int step = 1; step <= 3; ++step) {
    const Batches batches(rng_, 4, step == 3 ? kMaxTokens : 12);
    for (std::size_t r = 0; r < 4; ++r) world.ranks[r]->start(batches.parts[r]);
    for (std::size_t r = 0; r < 4; ++r) {
      const LayerPlacement& own = r == 2 ? next.layers[0] : placement_.layers[0];
      EXPECT_EQ(world.ranks[r]->finish(), cpu_answer(own, "home", batches.parts[r]))
          << "rank " << r;
    }
    for (const auto& rank : world.ranks) {
      EXPECT_EQ(rank->exchange.counters().fallbacks, static_cast<std::uint32_t>(step));
      EXPECT_EQ(rank->exchange.counters().timeouts, 0U);
    }
  }
  for (const std::size_t r : {0U, 1U, 3U}) {
    world.ranks[r]->router.update(0, next.layers[0], world.ranks[r]->stream);
  }
  expect_global_answer(world, next, "optimal", rng_, 12);
}

TEST_F(Exchanged, ASilentPeerCostsTheTimeoutAndNoMore) {
  for (const int max_tokens : {12, kMaxTokens}) {
    World world(placement_, "optimal", 2, milliseconds(50));
    Batches batches(rng_, 2, max_tokens);
    if (max_tokens == kMaxTokens)
      batches.parts[0] = test::random_topk(rng_, kExperts, kMaxTokens, kTopk);
    const auto begin = std::chrono::steady_clock::now();
    world.ranks[0]->start(batches.parts[0]);
    EXPECT_EQ(world.ranks[0]->finish(), cpu_answer(placement_.layers[0], "home", batches.parts[0]));
    const auto time = std::chrono::steady_clock::now() - begin;
    EXPECT_GE(time, milliseconds(40));
    EXPECT_EQ(world.ranks[0]->exchange.counters().timeouts, 1U);
    EXPECT_EQ(world.ranks[0]->exchange.counters().fallbacks, 1U);

    // The late rank still finds the message of that call; then both are in step again.
    world.ranks[1]->start(batches.parts[1]);
    static_cast<void>(world.ranks[1]->finish());
    EXPECT_EQ(world.ranks[1]->exchange.counters().timeouts, 0U);
    expect_global_answer(world, placement_, "optimal", rng_, 12);
  }
}

TEST_F(Exchanged, ReplaysInGraphs) {
  World world(placement_, "optimal", 2);
  Batches batches(rng_, 2, 12);
  batches = Batches(rng_, 2, 12);
  std::vector<std::unique_ptr<test::Graph>> graphs;
  for (std::size_t r = 0; r < 2; ++r) {
    Rank& rank = *world.ranks[r];
    rank.topk = batches.parts[r];
    cuda::RouteExtras extras;
    extras.exchange = &rank.exchange;
    graphs.push_back(std::make_unique<test::Graph>(rank.stream, [&] {
      for (int i = 0; i < 5; ++i) {
        rank.router.route(0, rank.ids.data(), rank.topk.num_tokens, rank.ids.data() + 1024,
                          rank.stream, extras);
      }
    }));
    rank.ids.fill(rank.topk.ids);
  }
  const auto expected = cpu_answer(placement_.layers[0], "optimal", batches.whole);
  for (int replay = 0; replay < 50; ++replay) {
    for (std::size_t r = 0; r < 2; ++r) graphs[r]->launch(world.ranks[r]->stream);
    for (std::size_t r = 0; r < 2; ++r) world.ranks[r]->stream.wait();
    const auto all = world.ranks[0]->ids.read();
    const std::size_t count = batches.parts[0].ids.size();
    ASSERT_TRUE(std::equal(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(count),
                           all.begin() + 1024));
  }
  EXPECT_EQ(world.ranks[0]->exchange.counters().fallbacks, 0U);
}

}  // namespace
}  // namespace metro
