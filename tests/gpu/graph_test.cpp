// SPDX-License-Identifier: Apache-2.0
// The router in CUDA graphs: inputs and placements change between replays, answers do not wander.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gpu/device_test.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

constexpr int kExperts = 96;
constexpr int kGpus = 16;
constexpr int kTokens = 48;
constexpr int kTopk = 6;

std::vector<std::int32_t> cpu_answer(const LayerPlacement& placement, std::string_view policy,
                                     const TopkBatch& topk) {
  std::vector<std::int32_t> ids(topk.ids.size());
  Router(placement, policy).route(topk.view(), ids);
  return ids;
}

class RouterGraph : public test::DeviceTest, public testing::WithParamInterface<const char*> {};

INSTANTIATE_TEST_SUITE_P(Cuda, RouterGraph,
                         testing::Values("optimal", "metro", "metro-paper", "home", "shares",
                                         "even", "hash"),
                         [](const auto& test) {
                           std::string name(test.param);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(RouterGraph, FollowsNewInputsAndPlacements) {
  for (const bool programmatic : {false, true}) {
    Rng rng(11);
    Placement placement{kExperts, kGpus, {}};
    for (int i = 0; i < 3; ++i) {
      placement.layers.push_back(test::random_placement(rng, kExperts, kGpus));
    }
    cuda::Router router(placement, {.policy = GetParam(),
                                    .max_tokens = kTokens,
                                    .topk = kTopk,
                                    .max_replicas = 3 * kExperts,
                                    .programmatic_launch = programmatic});
    const test::Stream stream;
    const std::size_t count = std::size_t{kTokens} * kTopk;
    test::DeviceVector<std::int32_t> ids(3 * count);
    const test::DeviceVector<std::int32_t> replicas(3 * count);
    const test::Graph graph(stream, [&] {
      for (int layer = 0; layer < 3; ++layer) {
        const auto offset = static_cast<std::size_t>(layer) * count;
        router.route(layer, ids.data() + offset, kTokens, replicas.data() + offset, stream);
      }
    });
    for (int replay = 0; replay < 30; ++replay) {
      if (replay % 3 == 1) {
        const auto layer = static_cast<std::size_t>(replay / 3 % 3);
        placement.layers[layer] = test::random_placement(rng, kExperts, kGpus);
        router.update(static_cast<int>(layer), placement.layers[layer], stream);
      }
      std::vector<std::int32_t> all;
      std::vector<std::int32_t> expected;
      for (const LayerPlacement& layer : placement.layers) {
        const TopkBatch topk = test::random_topk(rng, kExperts, kTokens, kTopk);
        all.insert(all.end(), topk.ids.begin(), topk.ids.end());
        const auto answer = cpu_answer(layer, GetParam(), topk);
        expected.insert(expected.end(), answer.begin(), answer.end());
      }
      ids.fill(all);
      graph.launch(stream);
      stream.wait();
      ASSERT_EQ(replicas.read(), expected) << "replay " << replay;
    }
  }
}

TEST_P(RouterGraph, GivesTheSameAnswerEveryTime) {
  Rng rng(12);
  const Placement placement{kExperts, kGpus, {test::random_placement(rng, kExperts, kGpus)}};
  constexpr int kManyTokens = 3000;  // several CTAs
  cuda::Router router(placement, {.policy = GetParam(), .max_tokens = kManyTokens, .topk = kTopk});
  for (const int tokens : {kTokens, kManyTokens}) {
    const TopkBatch topk = test::random_topk(rng, kExperts, tokens, kTopk);
    const auto expected = cpu_answer(placement.layers[0], GetParam(), topk);
    const test::Stream stream;
    const test::DeviceVector<std::int32_t> ids(topk.ids);
    const test::DeviceVector<std::int32_t> replicas(topk.ids.size());
    const auto host = cuda::make_pinned_array<std::int32_t>(topk.ids.size());
    const test::Graph graph(stream, [&] {
      router.route(0, ids.data(), tokens, replicas.data(), stream);
      METRO_CUDA_CHECK(cudaMemcpyAsync(host.get(), replicas.data(), topk.ids.size() * 4,
                                       cudaMemcpyDeviceToHost, stream));
    });
    for (int replay = 0; replay < (test::num_gpu_instances() >= 10'000 ? 1000 : 20); ++replay) {
      graph.launch(stream);
      stream.wait();
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), host.get())) << "replay " << replay;
    }
  }
}

class CudaRouter : public test::DeviceTest {};

TEST_F(CudaRouter, AccumulatesTokensWhenAsked) {
  Rng rng(13);
  const Placement placement{8, 2, {test::random_placement(rng, 8, 2)}};
  cuda::Router router(placement, {.policy = "hash", .max_tokens = 20, .topk = 2});
  const TopkBatch topk = test::random_topk(rng, 8, 20, 2);
  const test::Stream stream;
  const test::DeviceVector<std::int32_t> ids(topk.ids);
  const test::DeviceVector<std::int32_t> replicas(topk.ids.size());
  const test::DeviceVector<std::int32_t> tokens(
      static_cast<std::size_t>(placement.layers[0].num_replicas()));
  cuda::RouteExtras extras;
  extras.tokens_per_replica = tokens.data();
  router.route(0, ids.data(), 20, replicas.data(), stream, extras);
  stream.wait();
  std::vector<std::int32_t> once = tokens.read();
  extras.accumulate_tokens = true;
  router.route(0, ids.data(), 20, replicas.data(), stream, extras);
  stream.wait();
  for (auto& count : once) count *= 2;
  EXPECT_EQ(tokens.read(), once);
}

/// A kernel's limit of shared memory is shared by all routers of a process.
TEST_F(CudaRouter, LargeAndSmallRoutersLiveSideBySide) {
  Rng rng(15);
  for (const char* policy : {"optimal", "metro", "even"}) {
    std::vector<Placement> placements;
    for (const int experts : {1000, 600}) {
      placements.push_back({experts, 60, {test::random_placement(rng, experts, 60)}});
    }
    cuda::Router large(placements[0],
                       {.policy = policy, .max_tokens = 8, .topk = 2, .max_replicas = 8192});
    cuda::Router small(placements[1], {.policy = policy, .max_tokens = 8, .topk = 2});
    const TopkBatch topk = test::random_topk(rng, 600, 8, 2);
    const test::DeviceVector<std::int32_t> ids(topk.ids);
    const test::DeviceVector<std::int32_t> replicas(topk.ids.size());
    const test::Stream stream;
    small.route(0, ids.data(), 8, replicas.data(), stream);
    large.route(0, ids.data(), 8, replicas.data(), stream);
    stream.wait();
    EXPECT_EQ(replicas.read(), cpu_answer(placements[0].layers[0], policy, topk)) << policy;
  }
}

TEST_F(CudaRouter, RefusesWhatItCannotDo) {
  Rng rng(14);
  const auto code_of = [](auto&& work) {
    try {
      work();
    } catch (const Error& error) {
      return static_cast<int>(error.code());
    }
    return 0;
  };
  const auto make = [&](int experts, int gpus, const cuda::RouterOptions& options) {
    const Placement placement{experts, gpus, {test::random_placement(rng, experts, gpus)}};
    return code_of([&] { cuda::Router router(placement, options); });
  };
  const cuda::RouterOptions options{.max_tokens = 8, .topk = 2};
  EXPECT_EQ(make(8, 2, options), 0);
  EXPECT_EQ(make(8, 65, options), static_cast<int>(ErrorCode::kInfeasible));
  EXPECT_EQ(make(1025, 2, options), static_cast<int>(ErrorCode::kInfeasible));
  EXPECT_EQ(make(8, 2, {.max_tokens = 8, .topk = 33}), static_cast<int>(ErrorCode::kUsage));
  EXPECT_EQ(make(8, 2, {.max_tokens = 65537, .topk = 2}), static_cast<int>(ErrorCode::kUsage));
  EXPECT_EQ(make(8, 2, {.policy = "random", .max_tokens = 8, .topk = 2}),
            static_cast<int>(ErrorCode::kUsage));

  const Placement placement{8, 2, {test::random_placement(rng, 8, 2)}};
  cuda::Router router(placement, options);
  const test::DeviceVector<std::int32_t> ids(16);
  EXPECT_EQ(code_of([&] { router.route(1, ids.data(), 8, ids.data(), nullptr); }),
            static_cast<int>(ErrorCode::kUsage));
  EXPECT_EQ(code_of([&] { router.route(0, ids.data(), 9, ids.data(), nullptr); }),
            static_cast<int>(ErrorCode::kUsage));
  EXPECT_EQ(code_of([&] { router.update(0, test::random_placement(rng, 9, 2), nullptr); }),
            static_cast<int>(ErrorCode::kInput));
  EXPECT_LE(router.workspace_bytes(), std::size_t{1} << 20);
}

}  // namespace
}  // namespace metro
