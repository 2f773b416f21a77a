// SPDX-License-Identifier: Apache-2.0
// Every device policy against the CPU's on random instances, counts included.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "gpu/device_test.hpp"
#include "metro/cuda/router.hpp"
#include "metro/metrics.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

constexpr auto kDevicePolicies = std::to_array<std::string_view>(
    {"optimal", "metro", "metro-paper", "home", "shares", "even", "hash"});

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

/// What one group of instances has in common: they are the layers of one router.
struct GroupShape {
  int num_experts;
  int num_gpus;
  int topk;
  int max_tokens;
};

/// Edge shapes come round again and again; the rest are small and random.
GroupShape group_shape(Rng& rng, std::int64_t group) {
  const auto up_to = [&](int most) {
    return 1 + static_cast<int>(rng.below(static_cast<std::uint32_t>(most)));
  };
  switch (group % 12) {
    case 0:
      return {up_to(48), 1, up_to(8), 40};
    case 1:
      return {1, up_to(12), up_to(4), 20};
    case 2:
      return {40 + up_to(120), 33, up_to(8), 60};
    case 3:
      return {64 + up_to(192), 64, up_to(10), 80};
    case 4:
      return {257 + up_to(255), up_to(40), up_to(12), 60};
    case 5:
      return {513 + up_to(511), up_to(64), up_to(16), 60};
    case 6:
      return {up_to(64), up_to(32), 32, 150};
    default:
      return {up_to(48), up_to(12), up_to(8), 40};
  }
}

struct Layer {
  LayerPlacement placement;
  TopkBatch topk;
  std::int32_t num_valid = 0;
  std::size_t offset = 0;  // of its ids in the group's arrays
};

struct Group {
  GroupShape shape;
  bool wide;
  bool in_place;
  std::vector<Layer> layers;
  std::size_t num_ids = 0;
};

Group make_group(std::int64_t index, int num_layers) {
  Rng rng(static_cast<std::uint64_t>(index) * 7919 + 1);
  Group group{group_shape(rng, index), rng.below(3) == 0, rng.below(3) == 0, {}, 0};
  const bool aligned = rng.below(2) == 0;
  for (int i = 0; i < num_layers; ++i) {
    const auto& shape = group.shape;
    LayerPlacement placement = test::random_placement(rng, shape.num_experts, shape.num_gpus);
    if (rng.below(8) == 0) {  // everything on one GPU
      const auto gpu =
          static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(shape.num_gpus)));
      std::ranges::fill(placement.replica_to_gpu, gpu);
    }
    const auto most = static_cast<std::uint32_t>(shape.max_tokens);
    const int tokens = rng.below(20) == 0 ? 0 : static_cast<int>(1 + rng.below(most));
    TopkBatch topk = test::random_topk(rng, shape.num_experts, tokens, shape.topk);
    const auto special = rng.below(16);
    if (special == 0) std::ranges::fill(topk.ids, kMasked);
    if (special == 1) {  // ids that are no expert
      for (auto& id : topk.ids)
        id = rng.below(5) == 0 ? (rng.below(2) == 0 ? shape.num_experts : INT32_MIN) : id;
    }
    const auto valid =
        rng.below(3) == 0 ? static_cast<std::int32_t>(rng.below(most + 2)) - 1 : tokens;
    if (aligned) group.num_ids = (group.num_ids + 3) / 4 * 4;
    const std::size_t count = topk.ids.size();
    group.layers.push_back({std::move(placement), std::move(topk), valid, group.num_ids});
    group.num_ids += count;
  }
  return group;
}

/// What the device said of one group under one policy.
struct Answer {
  std::vector<std::int32_t> replicas;
  std::vector<std::int32_t> activated;  // [layers][gpus]
  std::vector<std::int32_t> max_activated;
  std::vector<std::int32_t> tokens;  // [layers][max replicas]
  int max_replicas = 0;
};

template <typename Id>
std::vector<std::int32_t> route_all(cuda::Router& router, const Group& group,
                                    const test::Stream& stream, cuda::RouteExtras extras,
                                    int max_replicas) {
  std::vector<Id> ids(group.num_ids + 1, Id{-1});
  std::vector<std::int32_t> valid;
  for (const Layer& layer : group.layers) {
    for (std::size_t i = 0; i < layer.topk.ids.size(); ++i)
      ids[layer.offset + i] = layer.topk.ids[i];
    valid.push_back(layer.num_valid);
  }
  const test::DeviceVector<Id> in(ids);
  std::ranges::fill(ids, Id{-77});
  const test::DeviceVector<Id> out(ids);
  const test::DeviceVector<std::int32_t> num_valid(valid);
  Id* target = group.in_place ? in.data() : out.data();
  for (std::size_t i = 0; i < group.layers.size(); ++i) {
    const Layer& layer = group.layers[i];
    cuda::RouteExtras own = extras;
    own.activated_per_gpu += i * at(group.shape.num_gpus);
    own.max_activated += i;
    own.tokens_per_replica += i * at(max_replicas);
    own.num_valid_tokens = num_valid.data() + i;
    router.route(static_cast<int>(i), in.data() + layer.offset, layer.topk.num_tokens,
                 target + layer.offset, stream, own);
  }
  stream.wait();
  const std::vector<Id> result = group.in_place ? in.read() : out.read();
  return {result.begin(), result.end()};
}

Answer ask_device(const Group& group, std::string_view policy, const test::Stream& stream) {
  Placement placement{group.shape.num_experts, group.shape.num_gpus, {}};
  Answer answer;
  for (const Layer& layer : group.layers) {
    placement.layers.push_back(layer.placement);
    answer.max_replicas = std::max(answer.max_replicas, layer.placement.num_replicas());
  }
  cuda::Router router(placement, {.policy = policy,
                                  .max_tokens = group.shape.max_tokens,
                                  .topk = group.shape.topk,
                                  .programmatic_launch = group.layers.size() % 2 == 0});
  const std::size_t layers = group.layers.size();
  const test::DeviceVector<std::int32_t> activated(layers * at(group.shape.num_gpus));
  const test::DeviceVector<std::int32_t> max_activated(layers);
  const test::DeviceVector<std::int32_t> tokens(layers * at(answer.max_replicas));
  cuda::RouteExtras extras;
  extras.activated_per_gpu = activated.data();
  extras.max_activated = max_activated.data();
  extras.tokens_per_replica = tokens.data();
  answer.replicas =
      group.wide ? route_all<std::int64_t>(router, group, stream, extras, answer.max_replicas)
                 : route_all<std::int32_t>(router, group, stream, extras, answer.max_replicas);
  answer.activated = activated.read();
  answer.max_activated = max_activated.read();
  answer.tokens = tokens.read();
  return answer;
}

/// The first difference between the device and the CPU, in words.
std::optional<std::string> difference(const Group& group, std::string_view policy,
                                      const Answer& answer) {
  for (std::size_t i = 0; i < group.layers.size(); ++i) {
    const Layer& layer = group.layers[i];
    TopkBatch topk = layer.topk;
    const auto kept = std::clamp(layer.num_valid, 0, topk.num_tokens) * topk.topk;
    std::fill(topk.ids.begin() + kept, topk.ids.end(), kMasked);
    std::vector<std::int32_t> expected(topk.ids.size());
    Router(layer.placement, policy).route(topk.view(), expected);
    MetricsCounter counter(layer.placement);
    const RoutingMetrics& metrics = counter.count(expected);
    std::vector<std::int32_t> tokens(at(answer.max_replicas));
    for (const std::int32_t slot : expected) {
      if (slot >= 0) ++tokens[at(slot)];
    }
    const auto differs = [&](const char* what, const auto& wanted, const auto& all,
                             std::size_t begin) {
      for (std::size_t k = 0; k < wanted.size(); ++k) {
        if (wanted[k] == all[begin + k]) continue;
        std::ostringstream text;
        text << policy << ", layer " << i << ", " << what << "[" << k << "]: device "
             << all[begin + k] << ", CPU " << wanted[k];
        return std::optional(text.str());
      }
      return std::optional<std::string>();
    };
    const std::vector<std::int32_t> most{metrics.max_activated};
    if (auto d = differs("replica", expected, answer.replicas, layer.offset)) return d;
    if (auto d = differs("activated", metrics.activated_per_gpu, answer.activated,
                         i * at(group.shape.num_gpus)))
      return d;
    if (auto d = differs("max_activated", most, answer.max_activated, i)) return d;
    if (auto d = differs("tokens", tokens, answer.tokens, i * at(answer.max_replicas))) return d;
  }
  return std::nullopt;
}

class CpuEquality : public test::DeviceTest {};

TEST_F(CpuEquality, HoldsForEveryPolicyOnRandomInstances) {
  const std::int64_t instances = test::num_gpu_instances();
  const int per_group = static_cast<int>(std::min<std::int64_t>(511, (instances + 11) / 12));
  const std::int64_t groups = (instances + per_group - 1) / per_group;
  std::atomic<std::int64_t> next{0};
  std::mutex mutex;
  std::string failure;
  const auto work = [&] {
    const test::Stream stream;
    for (std::int64_t g = next++; g < groups; g = next++) {
      const Group group = make_group(g, per_group + static_cast<int>(g % 2));
      for (const std::string_view policy : kDevicePolicies) {
        std::optional<std::string> found;
        try {
          found = difference(group, policy, ask_device(group, policy, stream));
        } catch (const std::exception& error) {
          found = std::string(policy) + ": " + error.what();
        }
        if (!found) continue;
        const std::scoped_lock lock(mutex);
        if (failure.empty()) failure = "group " + std::to_string(g) + ": " + *found;
        next = groups;
        return;
      }
    }
  };
  const unsigned all_threads = std::clamp(std::thread::hardware_concurrency(), 1U, 16U);
  const unsigned num_threads = instances < 10'000 ? 1 : all_threads;  // compute-sanitizer likes one
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < num_threads; ++t) {
    threads.emplace_back(work);
  }
  threads.clear();
  EXPECT_EQ(failure, "");
}

/// Batches of several CTAs, around every limit at which the launch shape changes.
TEST_F(CpuEquality, HoldsForLargeBatches) {
  const bool full = test::num_gpu_instances() >= 10'000;
  Rng rng(5);
  const test::Stream stream;
  struct Shape {
    int num_experts, num_gpus, topk, num_tokens;
  };
  std::vector<Shape> shapes = {{256, 16, 8, 512},    {256, 16, 8, 513},   {256, 16, 8, 2048},
                               {256, 16, 8, 2049},   {256, 64, 8, 2047},  {512, 32, 10, 1639},
                               {1024, 64, 16, 1025}, {1024, 64, 8, 1025}, {300, 40, 7, 5001}};
  if (full) {
    shapes.insert(shapes.end(), {{1024, 64, 32, 65536}, {8, 4, 1, 65536}, {256, 32, 31, 40000}});
  }
  for (const Shape& shape : shapes) {
    Group group{
        {shape.num_experts, shape.num_gpus, shape.topk, shape.num_tokens}, false, false, {}, 0};
    for (int i = 0; i < 2; ++i) {
      LayerPlacement placement = test::random_placement(rng, shape.num_experts, shape.num_gpus);
      TopkBatch topk = test::random_topk(rng, shape.num_experts, shape.num_tokens, shape.topk);
      if (i == 1) std::fill(topk.ids.begin() + 40, topk.ids.end(), topk.ids[7]);
      const std::size_t count = topk.ids.size();
      group.layers.push_back(
          {std::move(placement), std::move(topk), shape.num_tokens - i, group.num_ids});
      group.num_ids += count;
    }
    for (const std::string_view policy : kDevicePolicies) {
      for (const bool wide : {false, true}) {
        group.wide = wide;
        group.in_place = wide;
        const auto found = difference(group, policy, ask_device(group, policy, stream));
        EXPECT_EQ(found.value_or(""), "") << shape.num_experts << " experts, " << shape.num_tokens;
      }
    }
  }
}

}  // namespace
}  // namespace metro
