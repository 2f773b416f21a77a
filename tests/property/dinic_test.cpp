// SPDX-License-Identifier: Apache-2.0
// The rival that the benchmark races is right too.
#include "dinic.hpp"

#include <gtest/gtest.h>

#include "metro/metrics.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

TEST(Dinic, FindsTheOptimum) {
  for (std::uint64_t seed = 0; seed < 5000; ++seed) {
    const test::Instance instance = test::random_instance(seed);
    std::vector<std::int32_t> expected(instance.topk.ids.size());
    std::vector<std::int32_t> ids(instance.topk.ids.size());
    Router(instance.placement, "optimal").route(instance.topk.view(), expected);
    bench::DinicRouter dinic(instance.placement);
    dinic.route(instance.topk.view(), ids);
    MetricsCounter counter(instance.placement);
    const int optimum = counter.count(expected).max_activated;
    ASSERT_EQ(counter.count(ids).max_activated, optimum) << "seed " << seed;
    ASSERT_EQ(dinic.max_activated(), optimum) << "seed " << seed;
  }
}

}  // namespace
}  // namespace metro
