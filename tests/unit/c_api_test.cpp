// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "metro/c.h"
#include "metro/metrics.hpp"
#include "metro/router.hpp"

namespace {

using ::testing::HasSubstr;

struct Destroy {
  void operator()(metro_placement* placement) const { metro_placement_destroy(placement); }
  void operator()(metro_router* router) const { metro_router_destroy(router); }
};
using PlacementHandle = std::unique_ptr<metro_placement, Destroy>;
using RouterHandle = std::unique_ptr<metro_router, Destroy>;

PlacementHandle create(const std::vector<std::int32_t>& experts, int num_experts, int num_gpus) {
  metro_placement* placement = nullptr;
  EXPECT_EQ(metro_placement_create(experts.data(), 1, static_cast<std::int32_t>(experts.size()),
                                   num_experts, num_gpus, &placement),
            METRO_OK)
      << metro_last_error();
  return PlacementHandle(placement);
}

RouterHandle router_of(const PlacementHandle& placement, const char* policy,
                       const metro_route_options* options = nullptr) {
  metro_router* router = nullptr;
  EXPECT_EQ(metro_router_create(placement.get(), 0, policy, options, &router), METRO_OK)
      << metro_last_error();
  return RouterHandle(router);
}

RC_GTEST_PROP(CApi, RoutesAndCountsAsTheLibraryDoes, ()) {
  const int num_experts = *rc::gen::inRange(1, 10);
  const int num_gpus = *rc::gen::inRange(1, 5);
  std::vector<std::int32_t> experts;
  for (std::int32_t expert = 0; expert < num_experts; ++expert) experts.push_back(expert);
  while (experts.size() % static_cast<std::size_t>(num_gpus) != 0 || *rc::gen::inRange(0, 4) > 0) {
    experts.push_back(*rc::gen::inRange(0, num_experts));
  }
  const auto ids = *rc::gen::container<std::vector<std::int32_t>>(
      rc::gen::inRange<std::int32_t>(-1, num_experts));
  const auto num_tokens = static_cast<int>(ids.size());
  const std::uint64_t seed = *rc::gen::arbitrary<std::uint64_t>();

  metro::LayerPlacement layer{num_experts, num_gpus, experts, {}, {}, {}};
  layer.replica_to_gpu = metro::contiguous_gpus(layer.num_replicas(), num_gpus);
  const PlacementHandle placement = create(experts, num_experts, num_gpus);
  for (const metro::PolicyInfo& policy : metro::policies()) {
    std::vector<std::int32_t> expected(ids.size());
    metro::Router(layer, policy.name, {.seed = seed}).route({ids, num_tokens, 1}, expected);

    const metro_route_options options{seed, 0};
    const RouterHandle router = router_of(placement, std::string(policy.name).c_str(), &options);
    std::vector<std::int32_t> replica_ids(ids.size());
    RC_ASSERT(metro_router_route(router.get(), ids.data(), num_tokens, 1, replica_ids.data()) ==
              METRO_OK);
    RC_ASSERT(replica_ids == expected);

    std::vector<std::int32_t> activated(static_cast<std::size_t>(num_gpus));
    std::vector<std::int64_t> tokens(activated.size());
    RC_ASSERT(metro_router_count(router.get(), replica_ids.data(), replica_ids.size(),
                                 activated.data(), tokens.data()) == METRO_OK);
    metro::MetricsCounter counter(layer);
    RC_ASSERT(activated == counter.count(expected).activated_per_gpu);
    RC_ASSERT(tokens == counter.count(expected).tokens_per_gpu);
  }
}

TEST(CApi, PlacesAndShowsALayer) {
  const std::vector<double> loads = {4, 3, 2, 1, 1, 2, 3, 4};
  const metro_placement_request request{
      .num_replicas = 6, .num_gpus = 2, .num_groups = 0, .num_nodes = 0};
  metro_placement* made = nullptr;
  ASSERT_EQ(metro_placement_place(loads.data(), 2, 4, &request, "homed", &made), METRO_OK);
  const PlacementHandle placement(made);
  EXPECT_EQ(metro_placement_num_layers(made), 2);
  metro_layer layer{};
  ASSERT_EQ(metro_placement_layer(made, 1, &layer), METRO_OK);
  ASSERT_EQ(layer.num_replicas, 6);
  for (int expert = 0; expert < 4; ++expert) {
    EXPECT_EQ(layer.replica_to_expert[layer.home[expert]], expert);
  }
  EXPECT_EQ(metro_placement_layer(made, 2, &layer), METRO_USAGE);
  EXPECT_THAT(metro_last_error(), HasSubstr("layer is 2, must be 0..1"));
}

TEST(CApi, WorksOutTheHomesOfALayerThatHasNone) {
  // Expert 2 lives on GPU 0 alone, so expert 0 has its home on GPU 1.
  const PlacementHandle placement = create({0, 1, 2, 0, 1, 1}, 3, 2);
  metro_layer layer{};
  ASSERT_EQ(metro_placement_layer(placement.get(), 0, &layer), METRO_OK);
  EXPECT_EQ(layer.home, nullptr);
  std::vector<std::int32_t> homes(3);
  ASSERT_EQ(metro_placement_homes(placement.get(), 0, homes.data()), METRO_OK);
  EXPECT_THAT(homes, ::testing::ElementsAre(3, 1, 2));
  EXPECT_EQ(metro_placement_homes(placement.get(), 1, homes.data()), METRO_USAGE);
  EXPECT_EQ(metro_placement_homes(placement.get(), 0, nullptr), METRO_USAGE);
}

TEST(CApi, ACostPricesAndGuidesHybrid) {
  const PlacementHandle placement = create({0, 1, 0, 2}, 3, 2);
  const double phi[] = {0, 10, 10};
  metro_cost* cost = nullptr;
  ASSERT_EQ(metro_cost_create(phi, 3, 4, 1, &cost), METRO_OK);
  metro_router* made = nullptr;
  ASSERT_EQ(metro_router_create_with_cost(placement.get(), 0, "hybrid", nullptr, cost, &made),
            METRO_OK);
  metro_cost_destroy(cost);
  const RouterHandle router(made);
  const std::int32_t topk[] = {0, 0, 0, 0, 0, 0, 1, 2};
  std::int32_t ids[8];
  ASSERT_EQ(metro_router_route(router.get(), topk, 8, 1, ids), METRO_OK);
  EXPECT_THAT(ids, ::testing::ElementsAre(0, 0, 0, 2, 2, 2, 1, 3));
  double us[2];
  ASSERT_EQ(metro_router_time(router.get(), ids, 8, us), METRO_OK);
  EXPECT_THAT(us, ::testing::ElementsAre(25, 25));
  double bound = 0;
  ASSERT_EQ(metro_router_time_bound(router.get(), topk, 8, 1, &bound), METRO_OK);
  EXPECT_GT(bound, 20);
  EXPECT_LE(bound, 25);

  metro_cost* none = nullptr;
  EXPECT_EQ(metro_cost_create(phi, 0, 4, 1, &none), METRO_INPUT);
  EXPECT_EQ(metro_cost_create(phi, 3, -4, 1, &none), METRO_INPUT);
  EXPECT_THAT(metro_last_error(), HasSubstr("beyond is -4"));
  EXPECT_EQ(metro_cost_create(nullptr, 3, 4, 1, &none), METRO_USAGE);
  EXPECT_EQ(metro_cost_read("no-such-file.json", 0, 0, nullptr, &none), METRO_INPUT);
  EXPECT_EQ(metro_cost_read("no-such-file.json", 0, 0, "bf17", &none), METRO_USAGE);
  EXPECT_EQ(metro_router_time(router.get(), ids, 8, nullptr), METRO_USAGE);
  ids[0] = 4;
  EXPECT_EQ(metro_router_time(router.get(), ids, 8, us), METRO_INPUT);
  EXPECT_EQ(metro_router_time_bound(router.get(), topk, -1, 1, &bound), METRO_USAGE);
  EXPECT_EQ(none, nullptr);
  metro_cost_destroy(nullptr);
}

TEST(CApi, WritesWhatItReads) {
  const auto path = std::filesystem::temp_directory_path() / "metro_c_api_test.json";
  const PlacementHandle placement = create({0, 1, 1, 0}, 2, 2);
  ASSERT_EQ(metro_placement_write(placement.get(), path.c_str()), METRO_OK);
  metro_placement* read = nullptr;
  ASSERT_EQ(metro_placement_read(path.c_str(), &read), METRO_OK);
  const PlacementHandle again(read);
  std::filesystem::remove(path);
  metro_layer layer{};
  ASSERT_EQ(metro_placement_layer(read, 0, &layer), METRO_OK);
  EXPECT_THAT(std::vector(layer.replica_to_expert, layer.replica_to_expert + 4),
              ::testing::ElementsAre(0, 1, 1, 0));
}

TEST(CApi, FailuresHaveACodeAndALine) {
  metro_placement* placement = nullptr;
  const std::int32_t experts[] = {0, 0, 1};
  EXPECT_EQ(metro_placement_create(experts, 1, 3, 2, 2, &placement), METRO_INFEASIBLE);
  EXPECT_EQ(metro_placement_create(experts, 1, 3, 3, 1, &placement), METRO_INPUT);
  EXPECT_THAT(metro_last_error(), HasSubstr("expert 2"));
  EXPECT_EQ(metro_placement_create(experts, -1, 3, 2, 1, &placement), METRO_USAGE);
  EXPECT_EQ(metro_placement_create(nullptr, 1, 3, 2, 1, &placement), METRO_USAGE);
  EXPECT_EQ(metro_placement_create(experts, 1, 3, 2, 1, nullptr), METRO_USAGE);
  EXPECT_EQ(metro_placement_read("no-such-file.json", &placement), METRO_INPUT);
  EXPECT_THAT(metro_last_error(), HasSubstr("no-such-file.json"));
  EXPECT_EQ(placement, nullptr);

  const PlacementHandle good = create({0, 1}, 2, 1);
  metro_router* router = nullptr;
  EXPECT_EQ(metro_router_create(good.get(), 0, "best", nullptr, &router), METRO_USAGE);
  EXPECT_EQ(metro_router_create(good.get(), 0, nullptr, nullptr, &router), METRO_USAGE);
  EXPECT_EQ(metro_router_create(nullptr, 0, "even", nullptr, &router), METRO_USAGE);
  EXPECT_EQ(router, nullptr);

  const RouterHandle made = router_of(good, "even");
  std::int32_t id = 0;
  EXPECT_EQ(metro_router_route(nullptr, &id, 1, 1, &id), METRO_USAGE);
  EXPECT_EQ(metro_router_route(made.get(), nullptr, 1, 1, &id), METRO_USAGE);
  EXPECT_EQ(metro_router_route(made.get(), &id, -1, 1, &id), METRO_USAGE);
  EXPECT_EQ(metro_router_route(made.get(), nullptr, 0, 8, nullptr), METRO_OK);
  std::int32_t ids[] = {0, 1, 0, 1, 0, 1};
  EXPECT_EQ(metro_router_route(made.get(), ids, 2, 2, ids + 2), METRO_USAGE);
  EXPECT_THAT(metro_last_error(), HasSubstr("replica_ids overlaps topk_ids"));
  EXPECT_EQ(metro_router_route(made.get(), ids + 2, 2, 2, ids), METRO_USAGE);
  EXPECT_EQ(metro_router_route(made.get(), ids, 1, 3, ids + 3), METRO_OK);
  EXPECT_EQ(metro_router_route(made.get(), ids, 1, 3, ids), METRO_OK);
  id = 2;
  EXPECT_EQ(metro_router_count(made.get(), &id, 1, nullptr, nullptr), METRO_INPUT);
  EXPECT_THAT(metro_last_error(), HasSubstr("replica_ids[0] is 2, must be a slot 0..1 or -1"));
  metro_placement_destroy(nullptr);
  metro_router_destroy(nullptr);
}

}  // namespace
