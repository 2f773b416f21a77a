// SPDX-License-Identifier: Apache-2.0
// Ranks that know only their own tokens: one GPU, one stream per rank, all kernels at once.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gpu/device_test.hpp"
#include "gpu/early_kernels.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"
#include "metro/metrics.hpp"
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

/// How a world of ranks is made.
struct WorldShape {
  std::string_view policy = "optimal";
  int num_ranks = 2;
  milliseconds timeout{2000};
  bool early = false;   ///< programmatic launch, behind a kernel that lets it start early
  int num_devices = 1;  ///< that ranks take in turn
};

int set_device(int device) {
  METRO_CUDA_CHECK(cudaSetDevice(device));
  return device;
}

/// One rank, with its own router.
struct Rank {
  Rank(const Placement& placement, const WorldShape& world, int rank)
      : shape(world),
        device(set_device(rank % world.num_devices)),
        router(placement, {.policy = world.policy,
                           .max_tokens = kMaxTokens,
                           .topk = kTopk,
                           .max_replicas = 3 * kExperts,
                           .programmatic_launch = world.early}),
        exchange(rank, world.num_ranks, world.timeout) {}

  void start(const TopkBatch& batch) {
    set_device(device);
    topk = batch;
    cuda::RouteExtras extras;
    extras.exchange = &exchange;
    extras.tokens_per_rank = tokens_per_rank.data();
    extras.activated_per_gpu = activated_per_gpu.data();
    if (shape.early) {
      ids.fill(std::vector<std::int32_t>(topk.ids.size(), 0));  // read if it does not wait
      source.fill(topk.ids);
      test::launch_early_producer(source.data(), ids.data(), static_cast<int>(topk.ids.size()),
                                  stream);
    } else {
      ids.fill(topk.ids);
    }
    router.route(0, ids.data(), topk.num_tokens, ids.data(), stream, extras);
  }
  std::vector<std::int32_t> finish() {
    set_device(device);
    stream.wait();
    auto all = ids.read();
    all.resize(topk.ids.size());
    return all;
  }

  WorldShape shape;
  int device;
  cuda::Router router;
  cuda::PeerExchange exchange;
  test::Stream stream;
  test::DeviceVector<std::int32_t> ids{std::size_t{kMaxTokens} * kTopk};
  test::DeviceVector<std::int32_t> source{std::size_t{kMaxTokens} * kTopk};
  test::DeviceVector<std::int32_t> tokens_per_rank{64};
  test::DeviceVector<std::int32_t> activated_per_gpu{kGpus};
  TopkBatch topk;
};

struct World {
  World(const Placement& placement_of, const WorldShape& shape_of)
      : placement(placement_of), shape(shape_of) {
    for (int r = 0; r < shape.num_ranks; ++r) {
      ranks.push_back(std::make_unique<Rank>(placement, shape, r));
    }
    connect();
  }

  void connect() {
    std::vector<cuda::PeerHandle> handles;
    for (const auto& rank : ranks) handles.push_back(rank->exchange.handle());
    for (const auto& rank : ranks) {
      set_device(rank->device);
      rank->exchange.connect(handles);
    }
  }
  void reset() {
    for (const auto& rank : ranks) {
      set_device(rank->device);
      rank->exchange.reset();
    }
  }

  Placement placement;
  WorldShape shape;
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

void expect_global_answer(World& world, const Placement& placement, Rng& rng, int max_tokens) {
  const std::string_view policy = world.shape.policy;
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
      World world(placement_, {.policy = policy, .num_ranks = num_ranks});
      for (int step = 0; step < 40; ++step) {
        expect_global_answer(world, placement_, rng_, 12);
      }
      EXPECT_EQ(world.ranks[0]->exchange.counters().fallbacks, 0U);
    }
  }
}

TEST_F(Exchanged, LargeBatchesExchangeBetweenKernels) {
  World world(placement_, {});
  for (int step = 0; step < 6; ++step) {
    expect_global_answer(world, placement_, rng_, step % 2 == 0 ? kMaxTokens : 10);
  }
}

TEST_F(Exchanged, AllRanksGoHomeWhileOneHasAnotherPlacement) {
  World world(placement_, {.num_ranks = 4});
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
  expect_global_answer(world, next, rng_, 12);
}

/// What a rank gives when it goes by its own tokens: `home`, its own counts, -1 for the others.
void expect_alone(Rank& rank, int index, const LayerPlacement& placement) {
  const auto expected = cpu_answer(placement, "home", rank.topk);
  EXPECT_EQ(rank.finish(), expected);
  MetricsCounter counter(placement);
  EXPECT_EQ(rank.activated_per_gpu.read(), counter.count(expected).activated_per_gpu);
  const auto tokens = rank.tokens_per_rank.read();
  for (int r = 0; r < rank.shape.num_ranks; ++r) {
    EXPECT_EQ(tokens[static_cast<std::size_t>(r)], r == index ? rank.topk.num_tokens : -1);
  }
}

TEST_F(Exchanged, ASilentPeerCostsTheTimeoutOnce) {
  for (const int max_tokens : {12, kMaxTokens}) {
    World world(placement_, {.timeout = milliseconds(50)});
    expect_global_answer(world, placement_, rng_, max_tokens);  // leaves words to be confused with
    expect_global_answer(world, placement_, rng_, max_tokens);
    Batches batches(rng_, 2, max_tokens);
    if (max_tokens == kMaxTokens)
      batches.parts[0] = test::random_topk(rng_, kExperts, kMaxTokens, kTopk);
    Rank& rank = *world.ranks[0];
    EXPECT_EQ(rank.exchange.fault(), cuda::ExchangeFault::kNone);
    const auto begin = std::chrono::steady_clock::now();
    rank.start(batches.parts[0]);
    expect_alone(rank, 0, placement_.layers[0]);
    EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(40));
    EXPECT_EQ(rank.exchange.fault(), cuda::ExchangeFault::kTimeout);
    EXPECT_EQ(rank.exchange.counters().timeouts, 1U);

    for (int call = 0; call < 5; ++call) {  // it has stopped: nobody is waited for
      rank.start(batches.parts[0]);
      expect_alone(rank, 0, placement_.layers[0]);
    }
    EXPECT_EQ(rank.exchange.counters().timeouts, 1U);
    EXPECT_EQ(rank.exchange.counters().skipped, 5U);
    EXPECT_EQ(rank.exchange.counters().fallbacks, 6U);

    // The late rank still finds the message of that call, then stops too.
    Rank& late = *world.ranks[1];
    late.start(batches.parts[1]);
    static_cast<void>(late.finish());
    EXPECT_EQ(late.exchange.fault(), cuda::ExchangeFault::kNone);
    late.start(batches.parts[1]);
    expect_alone(late, 1, placement_.layers[0]);
    EXPECT_EQ(late.exchange.fault(), cuda::ExchangeFault::kTimeout);

    world.reset();
    for (int step = 0; step < 5; ++step) expect_global_answer(world, placement_, rng_, max_tokens);
    for (const auto& each : world.ranks) {
      EXPECT_EQ(each->exchange.fault(), cuda::ExchangeFault::kNone);
      EXPECT_EQ(each->exchange.counters().timeouts, 1U);
    }
  }
}

TEST_F(Exchanged, AnExtraCallOfOneRankEndsWithAReset) {
  World world(placement_, {.num_ranks = 3, .timeout = milliseconds(30)});
  for (int extra = 1; extra <= 3; ++extra) {
    const Batches batches(rng_, 3, 12);
    world.ranks[1]->start(batches.parts[1]);
    expect_alone(*world.ranks[1], 1, placement_.layers[0]);
    world.reset();
    for (int step = 0; step < extra; ++step) expect_global_answer(world, placement_, rng_, 12);
  }
}

TEST_F(Exchanged, ARestartedRankJoinsAgain) {
  World world(placement_, {.num_ranks = 3, .timeout = milliseconds(500)});
  for (int restart = 0; restart < 3; ++restart) {
    for (int step = 0; step <= restart; ++step) expect_global_answer(world, placement_, rng_, 12);
    world.ranks[1] = std::make_unique<Rank>(placement_, world.shape, 1);
    const Batches batches(rng_, 3, 12);
    world.ranks[1]->start(batches.parts[1]);
    expect_alone(*world.ranks[1], 1, placement_.layers[0]);
    EXPECT_EQ(world.ranks[1]->exchange.fault(), cuda::ExchangeFault::kNotConnected);
    world.connect();
    expect_global_answer(world, placement_, rng_, 12);
  }
}

/// Peers write into a rank's buffer for as long as they exist.
TEST_F(Exchanged, ABufferOutlivesItsRankWhilePeersMayWrite) {
  World world(placement_, {.timeout = milliseconds(20)});
  const void* buffer = world.ranks[1]->exchange.handle().buffer;
  const auto is_allocated = [&] {
    cudaPointerAttributes attributes{};
    METRO_CUDA_CHECK(cudaPointerGetAttributes(&attributes, buffer));
    return attributes.type == cudaMemoryTypeDevice;
  };
  ASSERT_TRUE(is_allocated());
  world.ranks.pop_back();
  EXPECT_TRUE(is_allocated());
  const Batches batches(rng_, 2, 12);
  world.ranks[0]->start(batches.parts[0]);  // writes into it
  expect_alone(*world.ranks[0], 0, placement_.layers[0]);
  world.ranks[0]->exchange.disconnect();
  EXPECT_FALSE(is_allocated());
}

TEST_F(Exchanged, APeerThatIsGoneIsNotConnectedTo) {
  World world(placement_, {});
  std::vector<cuda::PeerHandle> handles;
  for (const auto& rank : world.ranks) handles.push_back(rank->exchange.handle());
  world.ranks[0]->exchange.disconnect();
  world.ranks.pop_back();
  EXPECT_THROW(world.ranks[0]->exchange.connect(handles), Error);
  EXPECT_THROW(world.ranks[0]->exchange.reset(), Error);
  EXPECT_EQ(world.ranks[0]->exchange.fault(), cuda::ExchangeFault::kNotConnected);
}

TEST_F(Exchanged, StartsEarlyBehindTheKernelInFront) {
  for (const int num_ranks : {1, 4}) {
    World world(placement_, {.num_ranks = num_ranks, .early = true});
    for (int step = 0; step < 20; ++step) expect_global_answer(world, placement_, rng_, 12);
    EXPECT_EQ(world.ranks[0]->exchange.counters().fallbacks, 0U);
  }
}

TEST_F(Exchanged, RanksOnSeveralGpus) {
  int devices = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&devices));
  if (devices < 2) GTEST_SKIP() << "one GPU; ranks on several need two";
  World world(placement_, {.num_ranks = devices, .num_devices = devices});
  for (int step = 0; step < 40; ++step) {
    expect_global_answer(world, placement_, rng_, step % 4 == 0 ? kMaxTokens : 12);
  }
  set_device(0);
}

/// A tag has 16 bits of the step.
TEST_F(Exchanged, StepsWrap) {
  if (test::num_gpu_instances() < 10'000) GTEST_SKIP() << "65,536 calls: with full instances only";
  World world(placement_, {.timeout = std::chrono::seconds(20)});
  constexpr int kCalls = 64;
  std::vector<std::unique_ptr<test::Graph>> graphs;
  const Batches batches(rng_, 2, 12);
  for (std::size_t r = 0; r < 2; ++r) {
    Rank& rank = *world.ranks[r];
    rank.start(batches.parts[r]);
  }
  for (const auto& rank : world.ranks) static_cast<void>(rank->finish());
  for (std::size_t r = 0; r < 2; ++r) {
    Rank& rank = *world.ranks[r];
    cuda::RouteExtras extras;
    extras.exchange = &rank.exchange;
    graphs.push_back(std::make_unique<test::Graph>(rank.stream, [&] {
      for (int i = 0; i < kCalls; ++i) {
        rank.router.route(0, rank.source.data(), rank.topk.num_tokens, rank.ids.data(), rank.stream,
                          extras);
      }
    }));
    rank.source.fill(rank.topk.ids);
  }
  for (int replay = 0; replay < 65536 / kCalls + 2; ++replay) {
    for (std::size_t r = 0; r < 2; ++r) graphs[r]->launch(world.ranks[r]->stream);
  }
  for (const auto& rank : world.ranks) rank->stream.wait();
  for (int step = 0; step < 5; ++step) expect_global_answer(world, placement_, rng_, 12);
  EXPECT_EQ(world.ranks[0]->exchange.counters().fallbacks, 0U);
}

TEST_F(Exchanged, ReplaysInGraphs) {
  World world(placement_, {});
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
