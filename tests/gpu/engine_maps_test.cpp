// SPDX-License-Identifier: Apache-2.0
// Serving by an engine's maps on the GPU, against a plain reading of the rule.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cuda/engine_rule.hpp"
#include "gpu/device_test.hpp"
#include "gpu/engine_reference.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

/// An engine's maps on the device, and what it counts there.
class DeviceMaps {
 public:
  explicit DeviceMaps(const test::EngineTables& tables, int load_size)
      : rows_(tables.rows), counts_(tables.counts), load_(static_cast<std::size_t>(load_size)) {
    maps_ = tables.on_host();
    maps_.expert_to_replicas = rows_.data();
    maps_.num_replicas_of = counts_.data();
    maps_.load = load_.data();
    maps_.load_size = load_size;
    maps_.is_recording = reinterpret_cast<const bool*>(recording_.data());
    maps_.is_live = live_.data();
    maps_.faults = faults_.data();
    maps_.checksum = checksum_.data();
  }

  void set(bool is_live, bool is_recording) {
    live_.fill({is_live ? 1 : 0});
    recording_.fill({static_cast<std::uint8_t>(is_recording ? 1 : 0)});
    faults_.fill({0, 0});
    checksum_.fill({0});
    load_.fill(std::vector<std::int32_t>(load_.read().size()));
  }
  void commit(const test::EngineTables& tables) {
    rows_.fill(tables.rows);
    counts_.fill(tables.counts);
  }

  [[nodiscard]] const cuda::EngineMaps& maps() const { return maps_; }
  [[nodiscard]] std::vector<std::int32_t> load() const { return load_.read(); }
  [[nodiscard]] std::vector<std::int64_t> faults() const { return faults_.read(); }
  [[nodiscard]] std::uint64_t checksum() const {
    return static_cast<std::uint64_t>(checksum_.read()[0]);
  }

 private:
  test::DeviceVector<std::int64_t> rows_;
  test::DeviceVector<std::int64_t> counts_;
  test::DeviceVector<std::int32_t> load_;
  test::DeviceVector<std::uint8_t> recording_{1};
  test::DeviceVector<std::int32_t> live_{1};
  test::DeviceVector<std::int64_t> faults_{2};
  test::DeviceVector<std::int64_t> checksum_{1};
  cuda::EngineMaps maps_;
};

std::uint64_t checksum_of(const test::Served& served, const TopkBatch& topk, int num_valid) {
  const int rows = std::clamp(num_valid, 0, topk.num_tokens);
  std::uint64_t sum = 0;
  for (int i = 0; i < rows * topk.topk; ++i) {
    sum += cuda::checksum_term(i, served.replicas[static_cast<std::size_t>(i)]);
  }
  return sum;
}

class EngineMapsTest : public test::DeviceTest {
 protected:
  struct Shape {
    int num_experts, num_gpus, topk, num_tokens;
  };

  /// One batch by every policy that serves so, with and without what may be wrong.
  template <typename Id>
  void check(Rng& rng, const Shape& shape, const std::string& what) {
    const LayerPlacement routed = test::random_placement(rng, shape.num_experts, shape.num_gpus);
    const bool is_told = rng.below(3) != 0;
    const LayerPlacement truth =
        is_told ? routed : test::random_placement(rng, shape.num_experts, shape.num_gpus);
    const test::EngineTables tables(truth, rng);
    TopkBatch topk = test::random_topk(rng, shape.num_experts, shape.num_tokens, shape.topk);
    if (rng.below(3) == 0) {  // whole rows, as vLLM masks them, and ids that are no expert
      for (auto& id : topk.ids) {
        if (rng.below(9) == 0) id = rng.below(2) == 0 ? shape.num_experts : kMasked;
      }
    }
    const auto some = rng.below(static_cast<std::uint32_t>(shape.num_tokens) + 3);
    const bool is_padded = rng.below(2) == 0;
    const auto num_valid = is_padded ? static_cast<std::int32_t>(some) - 1 : shape.num_tokens;
    const bool is_live = rng.below(4) != 0;
    const bool is_recording = rng.below(4) != 0;
    const int load_size = truth.num_replicas() - static_cast<int>(rng.below(2));
    DeviceMaps device(tables, load_size);
    const std::vector<Id> ids(topk.ids.begin(), topk.ids.end());
    const test::DeviceVector<Id> in(ids);
    const test::DeviceVector<Id> out(ids.size());
    const test::DeviceVector<std::int32_t> valid(std::vector<std::int32_t>{num_valid});
    for (const char* policy : {"optimal", "metro", "metro-paper"}) {
      cuda::Router router({shape.num_experts, shape.num_gpus, {routed}},
                          {.policy = policy, .max_tokens = shape.num_tokens, .topk = shape.topk});
      const test::Served expected = test::serve_plainly(routed, policy, tables, load_size, topk,
                                                        num_valid, is_live, is_recording);
      device.set(is_live, is_recording);
      cuda::RouteExtras extras;
      extras.engine = &device.maps();
      extras.num_valid_tokens = is_padded ? valid.data() : nullptr;
      const test::Stream stream;
      router.route(0, in.data(), shape.num_tokens, out.data(), stream, extras);
      stream.wait();
      const std::vector<Id> wide = out.read();
      const std::vector<std::int32_t> got(wide.begin(), wide.end());
      SCOPED_TRACE(what + ", " + policy);
      ASSERT_EQ(got, expected.replicas);
      ASSERT_EQ(device.load(), expected.load);
      ASSERT_EQ(device.faults(), (std::vector{expected.not_live, expected.stale}));
      ASSERT_EQ(device.checksum(), checksum_of(expected, topk, num_valid));
    }
  }
};

TEST_F(EngineMapsTest, AreServedAsTheRuleSays) {
  const std::int64_t instances = std::min<std::int64_t>(test::num_gpu_instances() / 50, 2000);
  Rng rng(21);
  const auto up_to = [&](int most) {
    return 1 + static_cast<int>(rng.below(static_cast<std::uint32_t>(most)));
  };
  for (std::int64_t i = 0; i < instances && !HasFatalFailure(); ++i) {
    const Shape shapes[] = {{up_to(48), up_to(12), up_to(8), up_to(40)},
                            {64 + up_to(192), 33 + up_to(31), up_to(10), up_to(80)},
                            {257 + up_to(700), up_to(40), up_to(12), up_to(60)},
                            {128, 8, 8, up_to(64)}};
    const Shape& shape = shapes[i % 4];
    const std::string what = "instance " + std::to_string(i);
    if (i % 3 == 0) {
      check<std::int64_t>(rng, shape, what);
    } else {
      check<std::int32_t>(rng, shape, what);
    }
  }
}

/// Around the sizes at which a thread takes more ids, and a batch more CTAs.
TEST_F(EngineMapsTest, AreServedInLargeBatches) {
  Rng rng(22);
  for (const Shape& shape :
       {Shape{256, 16, 8, 512}, Shape{256, 16, 8, 513}, Shape{256, 16, 8, 2048},
        Shape{256, 16, 8, 2049}, Shape{1024, 64, 16, 1025}, Shape{300, 40, 7, 5001}}) {
    for (int i = 0; i < 6 && !HasFatalFailure(); ++i) {
      check<std::int32_t>(rng, shape, std::to_string(shape.num_tokens) + " tokens");
    }
  }
}

/// A commit that the router did not follow is seen by the next replay, one that it followed serves.
TEST_F(EngineMapsTest, AreFollowedByACapturedGraph) {
  constexpr int kExperts = 64, kGpus = 8, kTopk = 4, kTokens = 24;
  Rng rng(23);
  LayerPlacement routed = test::random_placement(rng, kExperts, kGpus);
  test::EngineTables tables(routed, rng);
  constexpr int kMost = 3 * kExperts;
  tables.rows.resize(static_cast<std::size_t>(kExperts) * 200, -1);  // room for any later map
  cuda::Router router({kExperts, kGpus, {routed}},
                      {.max_tokens = kTokens, .topk = kTopk, .max_replicas = kMost});
  DeviceMaps device(tables, kMost);
  const test::DeviceVector<std::int32_t> in(std::size_t{kTokens} * kTopk);
  const test::DeviceVector<std::int32_t> out(std::size_t{kTokens} * kTopk);
  test::DeviceVector<std::int32_t> valid(1);
  cuda::RouteExtras extras;
  cuda::EngineMaps maps = device.maps();
  maps.row_stride = 200;
  extras.engine = &maps;
  extras.num_valid_tokens = valid.data();
  const auto widened = [](test::EngineTables narrow) {
    test::EngineTables wide = narrow;
    wide.row_stride = 200;
    wide.rows.assign(std::size_t{kExperts} * 200, -1);
    for (int e = 0; e < kExperts; ++e) {
      const auto list = narrow.replicas(e);
      std::ranges::copy(list, wide.rows.begin() + e * 200);
    }
    return wide;
  };
  tables = widened(test::EngineTables(routed, rng));
  device.commit(tables);
  const test::Stream stream;
  const test::Graph graph(stream,
                          [&] { router.route(0, in.data(), kTokens, out.data(), stream, extras); });
  int stale = 0;
  for (int replay = 0; replay < 60; ++replay) {
    if (replay % 4 == 1) {  // the engine commits, the router is not told
      tables = widened(test::EngineTables(test::random_placement(rng, kExperts, kGpus), rng));
      device.commit(tables);
    }
    if (replay % 4 == 3) {
      routed = test::random_placement(rng, kExperts, kGpus);
      tables = widened(test::EngineTables(routed, rng));
      device.commit(tables);
      router.update(0, routed, stream);
    }
    const TopkBatch topk = test::random_topk(rng, kExperts, kTokens, kTopk);
    const auto rows = static_cast<std::int32_t>(rng.below(kTokens + 1));
    METRO_CUDA_CHECK(
        cudaMemcpy(in.data(), topk.ids.data(), topk.ids.size() * 4, cudaMemcpyHostToDevice));
    valid.fill({rows});
    device.set(true, true);
    graph.launch(stream);
    stream.wait();
    const test::Served expected =
        test::serve_plainly(routed, "optimal", tables, kMost, topk, rows, true, true);
    ASSERT_EQ(out.read(), expected.replicas) << "replay " << replay;
    ASSERT_EQ(device.load(), expected.load) << "replay " << replay;
    ASSERT_EQ(device.faults(), (std::vector{expected.not_live, expected.stale}));
    stale += expected.stale > 0 ? 1 : 0;
  }
  EXPECT_GT(stale, 10);
}

TEST_F(EngineMapsTest, AreRefusedWhereTheyCannotBeServed) {
  Rng rng(24);
  const Placement placement{8, 2, {test::random_placement(rng, 8, 2)}};
  const test::EngineTables tables(placement.layers[0], rng);
  const DeviceMaps device(tables, placement.layers[0].num_replicas());
  const test::DeviceVector<std::int32_t> ids(16);
  const test::DeviceVector<std::int32_t> out(16);
  const test::DeviceVector<std::int32_t> tokens(32);
  const auto refuses = [&](const char* policy, const std::int32_t* from, cuda::RouteExtras extras) {
    cuda::Router router(placement, {.policy = policy, .max_tokens = 8, .topk = 2});
    extras.engine = &device.maps();
    try {
      router.route(0, from, 8, out.data(), nullptr, extras);
    } catch (const Error& error) {
      return error.code() == ErrorCode::kUsage;
    }
    return false;
  };
  EXPECT_TRUE(refuses("home", ids.data(), {}));
  EXPECT_TRUE(refuses("even", ids.data(), {}));
  EXPECT_TRUE(refuses("optimal", out.data(), {}));
  cuda::RouteExtras counting;
  counting.tokens_per_replica = tokens.data();
  EXPECT_TRUE(refuses("optimal", ids.data(), counting));
  EXPECT_FALSE(refuses("optimal", ids.data(), {}));
}

}  // namespace
}  // namespace metro
