// SPDX-License-Identifier: Apache-2.0
// The layer's parts on the GPU against the CPU's: top-k and random weights.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ep/cuda/topk_kernel.hpp"
#include "ep/gate.hpp"
#include "gpu/device_test.hpp"
#include "gpu/ep_reference.hpp"
#include "layer_bench/cuda/random_experts.hpp"
#include "layer_bench/random_experts.hpp"

namespace metro::ep::cuda {
namespace {

using test::at;
using test::DeviceVector;

enum class Logits { kRandom, kTies, kHostile };

struct GateCase {
  int experts;
  int topk;
  GateConfig gate;
  Logits kind = Logits::kRandom;
};

float draw(Logits kind, Rng& rng) {
  using Limits = std::numeric_limits<float>;
  const float hostile[] = {
      Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), -0.0F, 0.0F, 100.0F, -100.0F,
      Limits::denorm_min()};
  if (kind == Logits::kTies) return static_cast<float>(rng.below(4)) - 1.5F;
  if (kind == Logits::kHostile && rng.below(2) == 0) return hostile[rng.below(8)];
  return static_cast<float>(8 * rng.uniform() - 4);
}

class EpTopk : public test::DeviceTest {
 protected:
  static void check(const GateCase& of, Rng& rng) {
    constexpr int kRanks = 3;
    constexpr int kRows = 7;
    const std::vector<std::int32_t> counts{kRows, 0, 4};
    const LayerShape shape{.hidden = 16,
                           .intermediate = 16,
                           .num_experts = of.experts,
                           .topk = of.topk,
                           .shared_intermediate = 0,
                           .gate = of.gate,
                           .weights = DataType::kBf16};
    shape.validate();
    std::vector<float> logits(at(kRanks * kRows * of.experts));
    for (float& logit : logits) logit = draw(of.kind, rng);
    std::vector<std::int32_t> expected_ids(at(kRanks * kRows * of.topk), -1);
    std::vector<float> expected_weights(expected_ids.size(), 0.0F);
    TopkChooser chooser(shape);
    for (int row = 0; row < kRanks * kRows; ++row) {
      if (row % kRows >= counts[at(row / kRows)]) continue;
      const std::size_t out = at(row * of.topk);
      chooser.choose(std::span(logits).subspan(at(row * of.experts), at(of.experts)),
                     std::span(expected_ids).subspan(out, at(of.topk)),
                     std::span(expected_weights).subspan(out, at(of.topk)));
    }
    const DeviceVector<float> device_logits(logits);
    const DeviceVector<std::int32_t> device_counts(counts);
    const DeviceVector<std::int32_t> ids(std::vector<std::int32_t>(expected_ids.size(), -77));
    const DeviceVector<float> weights(std::vector<float>(expected_ids.size(), -77.0F));
    const test::Stream stream;
    TopkParams params{.gate = of.gate,
                      .num_experts = of.experts,
                      .topk = of.topk,
                      .rows = {device_counts.data(), kRanks, kRows},
                      .logits = device_logits.data(),
                      .forced_ids = nullptr,
                      .ids = ids.data(),
                      .weights = weights.data()};
    launch_topk(params, stream);
    stream.wait();
    const std::string what =
        std::to_string(of.experts) + " experts, top-" + std::to_string(of.topk);
    EXPECT_EQ(ids.read(), expected_ids) << what;
    const std::vector<float> got = weights.read();
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i], expected_weights[i], 1e-5F + 1e-5F * std::abs(expected_weights[i]))
          << what << ", entry " << i;
    }
    if (of.kind == Logits::kHostile) return;
    // A recorded choice overrules the gate's, and gets the weights that the gate gives it.
    std::vector<std::int32_t> forced(expected_ids.size());
    for (auto& id : forced)
      id = static_cast<std::int32_t>(rng.below(static_cast<unsigned>(of.experts) + 1)) - 1;
    const DeviceVector<std::int32_t> device_forced(forced);
    params.forced_ids = device_forced.data();
    launch_topk(params, stream);
    stream.wait();
    const std::vector<std::int32_t> ids_then = ids.read();
    const std::vector<float> weights_then = weights.read();
    for (int row = 0; row < kRanks * kRows; ++row) {
      if (row % kRows >= counts[at(row / kRows)]) continue;
      const std::size_t out = at(row * of.topk);
      std::vector<float> expected(at(of.topk));
      chooser.weigh(std::span(logits).subspan(at(row * of.experts), at(of.experts)),
                    std::span(forced).subspan(out, at(of.topk)), expected);
      for (std::size_t k = 0; k < expected.size(); ++k) {
        EXPECT_EQ(ids_then[out + k], forced[out + k]) << what;
        EXPECT_NEAR(weights_then[out + k], expected[k], 1e-5F + 1e-5F * std::abs(expected[k]))
            << what;
      }
    }
  }
};

TEST_F(EpTopk, ChoosesAsTheCpuDoes) {
  const GateConfig softmax;
  const GateConfig plain{.score = GateScore::kSoftmax,
                         .num_groups = 1,
                         .topk_groups = 1,
                         .normalise_weights = false,
                         .weight_scale = 1.5};
  const GateConfig sigmoid{.score = GateScore::kSigmoid,
                           .num_groups = 1,
                           .topk_groups = 1,
                           .normalise_weights = true,
                           .weight_scale = 2.5};
  const auto grouped = [](GateScore score, int groups, int chosen) {
    return GateConfig{.score = score,
                      .num_groups = groups,
                      .topk_groups = chosen,
                      .normalise_weights = true,
                      .weight_scale = 2.5};
  };
  Rng rng(21);
  for (const Logits kind : {Logits::kRandom, Logits::kTies, Logits::kHostile}) {
    for (const GateConfig& gate : {softmax, plain, sigmoid}) {
      for (const int experts : {1, 5, 32, 33, 128, 160, 256, 384, 512, 1000, 1024}) {
        for (const int topk : {1, 4, 8, 16}) {
          if (topk <= experts) check({experts, topk, gate, kind}, rng);
        }
      }
    }
    for (int round = 0; round < 10; ++round) {
      check({256, 8, grouped(GateScore::kSigmoid, 8, 4), kind}, rng);
      check({160, 6, grouped(GateScore::kSoftmax, 8, 3), kind}, rng);
      check({12, 3, grouped(GateScore::kSigmoid, 12, 5), kind}, rng);
      check({992, 16, grouped(GateScore::kSigmoid, 31, 2), kind}, rng);
    }
  }
}

class EpRandomExperts : public test::DeviceTest {};

/// Bit for bit, so that ranks on CPU and GPU make one model.
TEST_F(EpRandomExperts, AreTheCpusBits) {
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    for (const int ranks : {1, 4}) {
      const LayerShape shape{.hidden = 160,
                             .intermediate = 144,
                             .num_experts = 4,
                             .topk = 2,
                             .shared_intermediate = 0,
                             .gate = {},
                             .weights = type};
      const int rank = ranks - 1;
      const ExpertSlice slice = expert_slice(shape, rank, ranks);
      const std::vector<std::int32_t> ids{3, 1};
      const layer_bench::cuda::RandomGpuExperts experts(shape, slice, ids, 5);
      const std::size_t value = type == DataType::kFp8 ? 1 : 2;
      const int width = slice.end - slice.begin;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const layer_bench::RandomExpert cpu(type, shape.hidden, shape.intermediate,
                                            shard_of(shape.intermediate, rank, ranks), 5,
                                            static_cast<std::uint32_t>(ids[i]));
        std::vector<std::uint8_t> gate_up(at(2 * slice.width * shape.hidden) * value);
        std::vector<std::uint8_t> down(gate_up.size() / 2);
        METRO_CUDA_CHECK(
            cudaMemcpy(gate_up.data(), experts[i].gate_up, gate_up.size(), cudaMemcpyDeviceToHost));
        METRO_CUDA_CHECK(
            cudaMemcpy(down.data(), experts[i].down, down.size(), cudaMemcpyDeviceToHost));
        const auto* cpu_up = static_cast<const std::uint8_t*>(cpu.view().gate_up.values);
        const auto* cpu_down = static_cast<const std::uint8_t*>(cpu.view().down.values);
        const std::size_t row_bytes = at(shape.hidden) * value;
        for (int row = 0; row < 2 * slice.width; ++row) {
          const int inner = row % slice.width;
          for (std::size_t b = 0; b < row_bytes; ++b) {
            const std::uint8_t expected =
                inner < width ? cpu_up[at(row / slice.width * width + inner) * row_bytes + b] : 0;
            ASSERT_EQ(gate_up[at(row) * row_bytes + b], expected) << "gate-up row " << row;
          }
        }
        for (int row = 0; row < shape.hidden; ++row) {
          for (std::size_t b = 0; b < at(slice.width) * value; ++b) {
            const bool inside = b < at(width) * value;
            const std::uint8_t expected = inside ? cpu_down[at(row * width) * value + b] : 0;
            ASSERT_EQ(down[at(row * slice.width) * value + b], expected) << "down row " << row;
          }
        }
        if (type != DataType::kFp8) continue;
        float scales[2] = {};
        METRO_CUDA_CHECK(cudaMemcpy(&scales[0], experts[i].gate_up_scales, sizeof(float),
                                    cudaMemcpyDeviceToHost));
        METRO_CUDA_CHECK(
            cudaMemcpy(&scales[1], experts[i].down_scales, sizeof(float), cudaMemcpyDeviceToHost));
        EXPECT_EQ(scales[0], cpu.view().gate_up.scales[0]);
        EXPECT_EQ(scales[1], cpu.view().down.scales[0]);
      }
    }
  }
}

}  // namespace
}  // namespace metro::ep::cuda
