// SPDX-License-Identifier: Apache-2.0
// Weights that do not fit the layer are refused by name, on every rank, before anything runs.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "layer_bench/random_experts.hpp"
#include "metro/ep/local_transport.hpp"
#include "metro/ep/moe_layer.hpp"
#include "metro/error.hpp"

namespace metro::ep {
namespace {

const LayerShape kShape{
    .hidden = 8, .intermediate = 4, .num_experts = 2, .topk = 1, .shared_intermediate = 4};

/// Two experts of random weights, one of which a test may spoil.
class Experts final : public WeightSource {
 public:
  explicit Experts(DataType type)
      : first_(type, kShape.hidden, kShape.intermediate, {0, kShape.intermediate}, 1, 0),
        views_{first_.view(), first_.view()} {}
  const ExpertWeights& weights(int /*slot*/, int expert) override {
    return views_[static_cast<std::size_t>(expert)];
  }
  ExpertWeights& operator[](std::size_t expert) { return views_[expert]; }

 private:
  layer_bench::RandomExpert first_;
  std::vector<ExpertWeights> views_;
};

/// The message that making the layer on two ranks ends with; empty: none.
std::string fault_of(const LayerShape& shape,
                     const std::function<void(DenseWeights&, Experts&)>& spoil) {
  const layer_bench::RandomDense random(shape, 1);
  DenseWeights dense = random.view();
  Experts experts(shape.weights);
  spoil(dense, experts);
  const LayerPlacement placement{.num_experts = 2,
                                 .num_gpus = 2,
                                 .replica_to_expert = {0, 1},
                                 .replica_to_gpu = {0, 1},
                                 .home = {},
                                 .shares = {}};
  try {
    run_local_ranks(2, 30, [&](Transport& transport) {
      MoeLayer(shape, placement, {.policy = "optimal"}, {}, dense, experts, transport);
    });
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    return error.what();
  }
  return "";
}

TEST(EpWeights, ThatFitAreTaken) {
  EXPECT_EQ(fault_of(kShape, [](DenseWeights&, Experts&) {}), "");
}

TEST(EpWeights, OfAGateOfAnotherSizeAreRefused) {
  EXPECT_EQ(
      fault_of(kShape, [](DenseWeights& dense, Experts&) { dense.gate = dense.gate.first(15); }),
      "gate has 15 weights, must be 16, 2 experts x 8");
}

TEST(EpWeights, OfAMissingSharedExpertAreRefused) {
  EXPECT_EQ(fault_of(kShape, [](DenseWeights& dense, Experts&) { dense.shared = {}; }),
            "shared expert: gate_up is 0 x 0, must be 8 x 8");
}

TEST(EpWeights, OfAnExpertThatDoesNotFitAreRefusedBySlot) {
  const auto narrow = [](DenseWeights&, Experts& experts) { experts[1].down.cols = 3; };
  EXPECT_EQ(fault_of(kShape, narrow), "weights of slot 1: down is 8 x 3, must be 8 x 4");
  const auto empty = [](DenseWeights&, Experts& experts) { experts[0].gate_up.values = nullptr; };
  EXPECT_EQ(fault_of(kShape, empty), "weights of slot 0: gate_up has no values");
  const auto other = [](DenseWeights&, Experts& experts) {
    experts[0].down.type = DataType::kBf16;
  };
  EXPECT_EQ(fault_of(kShape, other), "weights of slot 0: down is bf16, the layer's are fp32");
}

TEST(EpWeights, OfFp8WithoutScalesAreRefused) {
  LayerShape shape = kShape;
  shape.weights = DataType::kFp8;
  const auto bare = [](DenseWeights&, Experts& experts) { experts[1].down.scales = nullptr; };
  EXPECT_EQ(fault_of(shape, bare), "weights of slot 1: down is fp8 and has no scales");
}

}  // namespace
}  // namespace metro::ep
