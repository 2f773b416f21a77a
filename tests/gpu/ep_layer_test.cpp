// SPDX-License-Identifier: Apache-2.0
// The layer on the GPU against its definition: ranks as threads on one GPU, over memory copies.
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "ep/cuda/layer_cuda.hpp"
#include "ep/cuda/stream.hpp"
#include "gpu/device_test.hpp"
#include "gpu/ep_loopback.hpp"
#include "gpu/ep_reference.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro::ep::cuda {
namespace {

using test::at;

constexpr int kMaxTokens = 9;
constexpr double kBf16Error = 1e-2;
constexpr double kFp8Error = 6e-2;  // tokens and activations may be rounded to e4m3

const LayerShape kShape{.hidden = 128,
                        .intermediate = 96,
                        .num_experts = 16,
                        .topk = 4,
                        .shared_intermediate = 0,
                        .gate = {},
                        .weights = DataType::kBf16};

std::vector<std::int32_t> all_ids(int count) {
  std::vector<std::int32_t> ids(at(count));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// Counts that differ by rank, none on the second.
std::vector<std::int32_t> uneven_counts(int ranks) {
  std::vector<std::int32_t> counts;
  for (int rank = 0; rank < ranks; ++rank) counts.push_back(rank == 1 ? 0 : kMaxTokens - 2 * rank);
  return counts;
}

class EpLayer : public test::DeviceTest {
 protected:
  /// Runs the layer on every rank and compares each rank's rows.
  static void check(const LayerShape& shape, const LayerOptions& options,
                    const LayerPlacement& placement, const std::vector<std::int32_t>& counts,
                    std::uint64_t seed) {
    const int ranks = static_cast<int>(counts.size());
    test::ReferenceLayer reference(shape);
    Rng rng(seed);
    const test::LayerBatch batch(reference, shape, kMaxTokens, counts, rng);
    const bool sharded = options.sharding == ExpertSharding::kTensorSharded;
    const std::vector<std::int32_t> experts = all_ids(shape.num_experts);
    std::vector<double> errors(at(ranks));
    std::vector<bool> clean(at(ranks), true);
    test::Loopback loopback(ranks);
    loopback.run([&](DeviceTransport& transport) {
      const int rank = transport.rank();
      const Stream stream;
      const layer_bench::cuda::RandomGpuExperts weights(
          shape, sharded ? expert_slice(shape, rank, ranks) : whole_expert(shape), experts,
          test::ReferenceLayer::kSeed);
      CudaLayer layer(shape, options, {.max_tokens = kMaxTokens}, placement, transport);
      layer.set_dense(reference.dense());
      std::vector<ExpertPointers> pointers;
      for (std::size_t i = 0; i < experts.size(); ++i) pointers.push_back(weights[i]);
      layer.update(placement, sharded ? pointers : test::local_pointers(placement, weights, rank),
                   stream);
      test::RankArrays arrays(kMaxTokens, shape.hidden);
      arrays.set(batch, rank);
      for (int again = 0; again < 2; ++again) {  // a step must not hang on what the last one left
        layer.forward(arrays.step(), stream);
        transport.wait(stream);
      }
      const std::vector<float> out = arrays.read();
      errors[at(rank)] = test::relative_error(out, batch.expected[at(rank)]);
      const std::size_t begin = at(counts[at(rank)]) * at(shape.hidden);
      for (std::size_t i = begin; i < out.size(); ++i) {
        if (out[i] != 0) clean[at(rank)] = false;
      }
    });
    for (int rank = 0; rank < ranks; ++rank) {
      const bool has_tokens = counts[at(rank)] > 0;
      EXPECT_LT(has_tokens ? errors[at(rank)] : 0.0,
                shape.weights == DataType::kFp8 ? kFp8Error : kBf16Error)
          << "rank " << rank << " of " << ranks << ", " << options.policy << ", "
          << to_string(options.dispatch) << ", " << to_string(options.combine) << ", "
          << to_string(options.sharding) << ", seed " << seed;
      EXPECT_TRUE(clean[at(rank)]) << "padding of rank " << rank;
    }
  }

  static LayerPlacement homed(int ranks, int replicas) {
    std::vector<double> loads;
    for (int expert = 0; expert < kShape.num_experts; ++expert) loads.push_back(1 + expert % 5);
    return place({1, kShape.num_experts, loads}, {.num_replicas = replicas, .num_gpus = ranks},
                 "homed")
        .layers[0];
  }
};

TEST_F(EpLayer, EqualsItsDefinitionUnderEveryPolicy) {
  std::uint64_t seed = 0;
  for (const char* policy : {"optimal", "metro", "metro-paper", "home", "shares", "even", "hash"}) {
    for (const auto& [dispatch, combine] :
         {std::pair{Dispatch::kAllGather, Combine::kReduceScatter},
          std::pair{Dispatch::kAllGather, Combine::kAllToAll},
          std::pair{Dispatch::kAllToAll, Combine::kAllToAll}}) {
      const LayerOptions options{
          .policy = policy, .route = {}, .dispatch = dispatch, .combine = combine};
      check(kShape, options, homed(4, 24), uneven_counts(4), ++seed);
    }
  }
}

TEST_F(EpLayer, TakesAnyPlacementAndNumberOfRanks) {
  Rng rng(3);
  for (std::uint64_t seed = 100; seed < 130; ++seed) {
    const int ranks = 1 + static_cast<int>(rng.below(8));
    const LayerPlacement placement = test::random_placement(rng, kShape.num_experts, ranks);
    std::vector<std::int32_t> counts;
    for (int rank = 0; rank < ranks; ++rank) {
      counts.push_back(static_cast<std::int32_t>(rng.below(kMaxTokens + 1)));
    }
    const bool all_to_all = rng.below(2) == 0;
    const LayerOptions options{.policy = rng.below(2) == 0 ? "optimal" : "even",
                               .route = {},
                               .dispatch = all_to_all ? Dispatch::kAllToAll : Dispatch::kAllGather};
    check(kShape, options, placement, counts, seed);
  }
}

TEST_F(EpLayer, RunsWithoutAnyToken) {
  for (const Dispatch dispatch : {Dispatch::kAllGather, Dispatch::kAllToAll}) {
    check(kShape, {.policy = "optimal", .route = {}, .dispatch = dispatch}, homed(4, 24),
          {0, 0, 0, 0}, 5);
  }
}

TEST_F(EpLayer, HasSharedExpertsGroupsAndFp8) {
  LayerShape shape = kShape;
  shape.shared_intermediate = 64;
  shape.gate = {.score = GateScore::kSigmoid,
                .num_groups = 4,
                .topk_groups = 2,
                .normalise_weights = true,
                .weight_scale = 2.5};
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    shape.weights = type;
    for (const Dispatch dispatch : {Dispatch::kAllGather, Dispatch::kAllToAll}) {
      for (const Combine combine : {Combine::kReduceScatter, Combine::kAllToAll}) {
        check(shape, {.policy = "optimal", .route = {}, .dispatch = dispatch, .combine = combine},
              homed(4, 24), uneven_counts(4), 6);
      }
    }
  }
}

/// 96 columns over 4 ranks are 24 each, which are padded to 32.
TEST_F(EpLayer, TensorShardedExpertsGiveTheSame) {
  for (const int ranks : {1, 2, 4}) {
    for (const Combine combine : {Combine::kReduceScatter, Combine::kAllToAll}) {
      for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
        LayerShape shape = kShape;
        shape.weights = type;
        check(shape,
              {.policy = "home",
               .route = {},
               .combine = combine,
               .sharding = ExpertSharding::kTensorSharded},
              {}, uneven_counts(ranks), 7);
      }
    }
  }
}

/// Under all-gather dispatch every rank must find the replicas that the CPU finds.
TEST_F(EpLayer, RoutesAsTheCpuDoes) {
  const LayerPlacement placement = homed(4, 24);
  test::ReferenceLayer reference(kShape);
  Rng rng(8);
  const test::LayerBatch batch(reference, kShape, kMaxTokens, uneven_counts(4), rng);
  const layer_bench::cuda::RandomGpuExperts weights(kShape, whole_expert(kShape), all_ids(16), 0);
  test::Loopback loopback(4);
  std::vector<std::vector<std::int32_t>> got(4);
  std::vector<std::vector<std::int32_t>> expected(4);
  loopback.run([&](DeviceTransport& transport) {
    const int rank = transport.rank();
    const Stream stream;
    CudaLayer layer(kShape, {}, {.max_tokens = kMaxTokens}, placement, transport);
    layer.set_dense(reference.dense());
    layer.update(placement, test::local_pointers(placement, weights, rank), stream);
    test::RankArrays arrays(kMaxTokens, kShape.hidden);
    arrays.set(batch, rank);
    layer.forward(arrays.step(), stream);
    transport.wait(stream);
    TopkBatch topk{std::vector<std::int32_t>(at(layer.routed_rows() * kShape.topk)),
                   layer.routed_rows(), kShape.topk};
    const std::size_t bytes = topk.ids.size() * sizeof(std::int32_t);
    got[at(rank)].resize(topk.ids.size());
    expected[at(rank)].resize(topk.ids.size());
    METRO_CUDA_CHECK(cudaMemcpy(topk.ids.data(), layer.topk_ids(), bytes, cudaMemcpyDeviceToHost));
    METRO_CUDA_CHECK(
        cudaMemcpy(got[at(rank)].data(), layer.replica_ids(), bytes, cudaMemcpyDeviceToHost));
    Router(placement, "optimal").route(topk.view(), expected[at(rank)]);
  });
  const auto masked = std::ranges::count(got[0], kMasked);
  EXPECT_EQ(masked,
            (4 * kMaxTokens - std::accumulate(batch.counts.begin(), batch.counts.end(), 0)) *
                kShape.topk);
  for (std::size_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(got[rank], expected[rank]) << rank;
    EXPECT_EQ(got[rank], got[0]) << rank;
  }
}

TEST_F(EpLayer, RefusesWhatItCannotDo) {
  const auto code_of = [](const LayerShape& shape, const LayerOptions& options,
                          const LayerCapacity& capacity, const LayerPlacement& placement) {
    int code = 0;
    test::Loopback(1).run([&](DeviceTransport& transport) {
      try {
        CudaLayer layer(shape, options, capacity, placement, transport);
        layer.update(placement, {}, nullptr);  // weights of no slot
      } catch (const Error& error) {
        code = static_cast<int>(error.code());
      }
    });
    return code;
  };
  const auto usage = static_cast<int>(ErrorCode::kUsage);
  const auto input = static_cast<int>(ErrorCode::kInput);
  const LayerPlacement one = homed(1, 16);
  LayerShape fp32 = kShape;
  fp32.weights = DataType::kFloat32;
  EXPECT_EQ(code_of(kShape, {}, {.max_tokens = 0}, one), usage);
  EXPECT_EQ(code_of(kShape, {.policy = "random", .route = {}}, {.max_tokens = 1}, one), usage);
  EXPECT_EQ(code_of(fp32, {}, {.max_tokens = 1}, one), usage);
  EXPECT_EQ(code_of(kShape,
                    {.policy = "home",
                     .route = {},
                     .dispatch = Dispatch::kAllToAll,
                     .sharding = ExpertSharding::kTensorSharded},
                    {.max_tokens = 1}, {}),
            usage);
  EXPECT_EQ(code_of(kShape, {}, {.max_tokens = 1}, homed(2, 16)), input);
  EXPECT_EQ(code_of(kShape, {}, {.max_tokens = 1}, one), input);
}

}  // namespace
}  // namespace metro::ep::cuda
