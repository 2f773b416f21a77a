// SPDX-License-Identifier: Apache-2.0
// The exchange over NCCL in a world of one; more ranks need more GPUs.
#include "metro/cuda/nccl_exchange.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "gpu/device_test.hpp"
#include "metro/cuda/router.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

class NcclExchanged : public test::DeviceTest {};

TEST_F(NcclExchanged, AWorldOfOneRoutesAsWithoutExchange) {
  ncclComm_t communicator = nullptr;
  const int device = 0;
  ASSERT_EQ(ncclCommInitAll(&communicator, 1, &device), ncclSuccess);
  {
    Rng rng(31);
    const Placement placement{200, 16, {test::random_placement(rng, 200, 16)}};
    cuda::Router router(placement, {.max_tokens = 4000, .topk = 8});
    cuda::NcclExchange exchange(communicator);
    const test::Stream stream;
    for (const int tokens : {0, 1, 64, 4000}) {
      const TopkBatch topk = test::random_topk(rng, 200, tokens, 8);
      std::vector<std::int32_t> expected(topk.ids.size());
      Router(placement.layers[0], "optimal").route(topk.view(), expected);
      const test::DeviceVector<std::int32_t> ids(topk.ids);
      cuda::RouteExtras extras;
      extras.exchange = &exchange;
      const test::Graph graph(
          stream, [&] { router.route(0, ids.data(), tokens, ids.data(), stream, extras); });
      graph.launch(stream);
      stream.wait();
      EXPECT_EQ(ids.read(), expected) << tokens << " tokens";
    }
    EXPECT_EQ(exchange.counters().fallbacks, 0U);
  }
  ncclCommDestroy(communicator);
}

}  // namespace
}  // namespace metro
