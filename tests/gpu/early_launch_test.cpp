// SPDX-License-Identifier: Apache-2.0
// Programmatic launch behind a kernel that lets the router start long before it writes the ids.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/launch.hpp"
#include "gpu/device_test.hpp"
#include "gpu/early_kernels.hpp"
#include "metro/cuda/router.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

constexpr int kExperts = 96;
constexpr int kGpus = 16;
constexpr int kTopk = 6;
constexpr int kTokens = 64;
constexpr int kCount = kTokens * kTopk;
constexpr int kRounds = 20;

class EarlyLaunch : public test::DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    int major = 0;
    METRO_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
    if (major < 9) GTEST_SKIP() << "programmatic launch needs compute capability 9.0";
  }

  /// How often a copy behind an early producer finds what was there before.
  static int stale_copies(const cuda::Kernel& kernel, bool wait) {
    const test::Stream stream;
    const test::DeviceVector<std::int32_t> source(std::vector<std::int32_t>(kCount, 1));
    test::DeviceVector<std::int32_t> ids(kCount);
    test::DeviceVector<std::int32_t> out(kCount);
    int stale = 0;
    for (int round = 0; round < kRounds; ++round) {
      ids.fill(std::vector<std::int32_t>(kCount, 0));
      METRO_CUDA_CHECK(cudaDeviceSynchronize());
      test::launch_early_producer(source.data(), ids.data(), kCount, stream);
      cuda::launch(kernel, {1, 256, true}, test::CopyParams{ids.data(), out.data(), kCount, wait},
                   stream);
      stream.wait();
      stale += out.read() == source.read() ? 0 : 1;
    }
    return stale;
  }
};

/// What the tests below rely on: without the wait, old values are read.
TEST_F(EarlyLaunch, ReallyOverlaps) {
  const cuda::Kernel kernel = cuda::prepared(test::copy_kernel_90());
  EXPECT_TRUE(kernel.waits);
  EXPECT_GT(stale_copies(kernel, false), 0);
  EXPECT_EQ(stale_copies(kernel, true), 0);
}

/// Code compiled for 8.0 has no wait, and this device runs it all the same.
TEST_F(EarlyLaunch, IsNotAskedForOfCodeWithoutTheWait) {
  const cuda::Kernel kernel = cuda::prepared(test::copy_kernel_80());
  EXPECT_FALSE(kernel.waits);
  EXPECT_EQ(stale_copies(kernel, true), 0);
}

TEST_F(EarlyLaunch, TheRouterWaitsForItsIds) {
  for (const char* policy : {"optimal", "metro", "metro-paper", "home", "shares", "even", "hash"}) {
    Rng rng(17);
    const Placement placement{kExperts, kGpus, {test::random_placement(rng, kExperts, kGpus)}};
    cuda::Router router(
        placement,
        {.policy = policy, .max_tokens = kTokens, .topk = kTopk, .programmatic_launch = true});
    const test::Stream stream;
    test::DeviceVector<std::int32_t> source_ids(kCount);
    test::DeviceVector<std::int32_t> ids(kCount);
    const test::DeviceVector<std::int32_t> replicas(kCount);
    for (int round = 0; round < kRounds; ++round) {
      const TopkBatch topk = test::random_topk(rng, kExperts, kTokens, kTopk);
      std::vector<std::int32_t> expected(topk.ids.size());
      Router(placement.layers[0], policy).route(topk.view(), expected);
      ids.fill(test::random_topk(rng, kExperts, kTokens, kTopk).ids);  // read if it does not wait
      source_ids.fill(topk.ids);
      METRO_CUDA_CHECK(cudaDeviceSynchronize());
      test::launch_early_producer(source_ids.data(), ids.data(), kCount, stream);
      router.route(0, ids.data(), kTokens, replicas.data(), stream);
      stream.wait();
      ASSERT_EQ(replicas.read(), expected) << policy << ", round " << round;
    }
  }
}

}  // namespace
}  // namespace metro
