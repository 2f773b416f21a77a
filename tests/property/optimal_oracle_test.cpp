// SPDX-License-Identifier: Apache-2.0
// `optimal` against max-flow. METRO_ORACLE_INSTANCES sets how many instances (CI: 20,000; the
// target `oracle-million` runs 1,000,000).
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "metro/metrics.hpp"
#include "metro/router.hpp"
#include "support/max_flow_oracle.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

std::uint64_t num_instances() {
  const char* text = std::getenv("METRO_ORACLE_INSTANCES");
  return text == nullptr ? 20000 : std::stoull(text);
}

int optimal(const test::Instance& instance) {
  Router router(instance.placement, "optimal");
  std::vector<std::int32_t> ids(instance.topk.ids.size());
  router.route(instance.topk.view(), ids);
  return MetricsCounter(instance.placement).count(ids).max_activated;
}

TEST(OptimalOracle, EqualsMaxFlowOnRandomInstances) {
  for (std::uint64_t seed = 0; seed < num_instances(); ++seed) {
    const test::Instance instance = test::random_instance(seed);
    ASSERT_EQ(optimal(instance), test::oracle_max_activated(instance.placement, instance.topk))
        << "seed " << seed;
  }
}

TEST(OptimalOracle, EqualsMaxFlowOnLargeInstances) {
  const test::InstanceShape shape{1024, 1024, 300, 12};
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const test::Instance instance = test::random_instance(seed, shape);
    ASSERT_EQ(optimal(instance), test::oracle_max_activated(instance.placement, instance.topk))
        << "seed " << seed;
  }
}

}  // namespace
}  // namespace metro
