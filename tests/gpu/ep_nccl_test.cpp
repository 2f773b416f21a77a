// SPDX-License-Identifier: Apache-2.0
// The layer over NCCL in a world of one, captured in a CUDA graph; more ranks need more GPUs.
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <string>
#include <vector>

#include "ep/cuda/layer_cuda.hpp"
#include "ep/cuda/nccl_transport.hpp"
#include "ep/cuda/stream.hpp"
#include "gpu/device_test.hpp"
#include "gpu/ep_reference.hpp"
#include "support/random_instance.hpp"

namespace metro::ep::cuda {
namespace {

using namespace std::chrono_literals;
using test::at;

constexpr int kMaxTokens = 12;
constexpr double kBf16Error = 1e-2;

const LayerShape kShape{.hidden = 128,
                        .intermediate = 64,
                        .num_experts = 24,
                        .topk = 4,
                        .shared_intermediate = 32,
                        .gate = {},
                        .weights = DataType::kBf16};

/// A layer on the one rank, captured.
class OneRank {
 public:
  OneRank(const LayerOptions& options, const LayerCapacity& capacity,
          const LayerPlacement& placement)
      : reference_(kShape),
        experts_(kShape, whole_expert(kShape), ids(), test::ReferenceLayer::kSeed),
        transport_(make_nccl_id(), 0, 1, 10s),
        layer_(kShape, options, capacity, placement, transport_),
        arrays_(kMaxTokens, kShape.hidden) {
    layer_.set_dense(reference_.dense());
    sharded_ = options.sharding == ExpertSharding::kTensorSharded;
    place(placement);
    layer_.forward(arrays_.step(), stream_);
    transport_.wait(stream_);
    graph_ = std::make_unique<Graph>(stream_, [&] { layer_.forward(arrays_.step(), stream_); });
  }

  void place(const LayerPlacement& placement) {
    std::vector<ExpertPointers> pointers = test::local_pointers(placement, experts_, 0);
    if (sharded_) {
      pointers.clear();
      for (std::size_t i = 0; i < ids().size(); ++i) pointers.push_back(experts_[i]);
    }
    layer_.update(placement, pointers, stream_);
  }

  /// How far one replay is from the layer's definition.
  double error(int num_tokens, Rng& rng) {
    const test::LayerBatch batch(reference_, kShape, kMaxTokens, {num_tokens}, rng);
    arrays_.set(batch, 0);
    graph_->launch(stream_);
    transport_.wait(stream_);
    return test::relative_error(arrays_.read(), batch.expected[0]);
  }

 private:
  static std::vector<std::int32_t> ids() {
    std::vector<std::int32_t> all(at(kShape.num_experts));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }

  test::ReferenceLayer reference_;
  layer_bench::cuda::RandomGpuExperts experts_;
  NcclTransport transport_;
  Stream stream_;
  CudaLayer layer_;
  test::RankArrays arrays_;
  bool sharded_ = false;
  std::unique_ptr<Graph> graph_;
};

class EpNccl : public test::DeviceTest {};

TEST_F(EpNccl, OneGraphServesAnyNumberOfTokens) {
  Rng rng(1);
  const LayerPlacement placement = test::random_placement(rng, kShape.num_experts, 1);
  for (const Dispatch dispatch : {Dispatch::kAllGather, Dispatch::kAllToAll}) {
    for (const Combine combine : {Combine::kReduceScatter, Combine::kAllToAll}) {
      for (const char* policy : {"optimal", "even"}) {
        OneRank rank({.policy = policy, .route = {}, .dispatch = dispatch, .combine = combine},
                     {.max_tokens = kMaxTokens}, placement);
        for (const int tokens : {kMaxTokens, 1, 7}) {
          EXPECT_LT(rank.error(tokens, rng), kBf16Error)
              << tokens << " tokens, " << policy << ", " << to_string(dispatch) << ", "
              << to_string(combine);
        }
        EXPECT_EQ(rank.error(0, rng), 0.0);  // all padding, so all zeros
      }
    }
  }
  OneRank sharded({.policy = "home", .route = {}, .sharding = ExpertSharding::kTensorSharded},
                  {.max_tokens = kMaxTokens}, {});
  EXPECT_LT(sharded.error(5, rng), kBf16Error);
}

/// Invariant 7: the graph's pointers stay, what they point to changes.
TEST_F(EpNccl, OneGraphServesAHundredPlacements) {
  Rng rng(2);
  constexpr int kMaxSlots = 3 * 24;
  for (const Dispatch dispatch : {Dispatch::kAllGather, Dispatch::kAllToAll}) {
    OneRank rank(
        {.policy = "optimal", .route = {}, .dispatch = dispatch},
        {.max_tokens = kMaxTokens, .max_local_slots = kMaxSlots, .max_replicas = kMaxSlots},
        test::random_placement(rng, kShape.num_experts, 1));
    for (int i = 0; i < 100; ++i) {
      rank.place(test::random_placement(rng, kShape.num_experts, 1));
      ASSERT_LT(rank.error(1 + static_cast<int>(rng.below(kMaxTokens)), rng), kBf16Error)
          << "placement " << i;
    }
    EXPECT_THROW(rank.place(test::random_placement(rng, kShape.num_experts, 2)), Error);
    EXPECT_LT(rank.error(3, rng), kBf16Error) << "after a placement that was refused";
  }
}

TEST_F(EpNccl, ARankThatNeverComesIsAnErrorInTime) {
  const auto begin = std::chrono::steady_clock::now();
  try {
    const NcclTransport transport(make_nccl_id(), 0, 2, 2s);
    FAIL() << "a world of two, with one rank";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
    EXPECT_NE(std::string(error.what()).find("rank 0 of 2"), std::string::npos) << error.what();
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 20s);
}

}  // namespace
}  // namespace metro::ep::cuda
