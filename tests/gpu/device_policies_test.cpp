// SPDX-License-Identifier: Apache-2.0
// Which policies run on a GPU: the table says so, src/cuda builds them. Needs no GPU.
#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "cuda/layer_table.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro::cuda {
namespace {

TEST(DevicePolicies, AreThoseOfTheTable) {
  std::set<std::string_view> said;
  for (const PolicyInfo& policy : policies()) {
    if (policy.device) said.insert(policy.name);
  }
  std::set<std::string_view> built;
  std::set<DevicePolicy> kernels;
  for (const DeviceKernel& kernel : device_kernels()) {
    EXPECT_TRUE(built.insert(kernel.policy).second) << kernel.policy << " has two kernels";
    EXPECT_TRUE(kernels.insert(kernel.kernel).second) << kernel.policy;
  }
  EXPECT_EQ(built, said);
}

TEST(DevicePolicies, HaveATableAndLookAtWhatTheirRowSays) {
  const LayerPlacement placement = test::random_instance(7).placement;
  for (const PolicyInfo& policy : policies()) {
    SCOPED_TRACE(policy.name);
    if (!policy.device) {
      try {
        device_policy(policy.name);
        ADD_FAILURE() << "it has a kernel";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kUsage);
        EXPECT_NE(std::string(error.what()).find("those that do: "), std::string::npos);
      }
      continue;
    }
    const DevicePolicy kernel = device_policy(policy.name);
    EXPECT_EQ(needs_active_experts(kernel), policy.needs == PolicyNeeds::kBitmap);
    const TableLayout layout =
        table_layout(kernel, placement.num_experts, placement.num_gpus, placement.num_replicas());
    std::vector<std::uint32_t> table(static_cast<std::size_t>(layout.total_words), 0xDEADBEEFU);
    build_layer_table(placement, kernel, layout, table);
    EXPECT_NE(table[static_cast<std::size_t>(layout.epoch)], 0xDEADBEEFU);
  }
}

}  // namespace
}  // namespace metro::cuda
