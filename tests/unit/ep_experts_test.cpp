// SPDX-License-Identifier: Apache-2.0
// Number formats, random weights and the matrix kernels of the CPU layer.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "ep/gate.hpp"
#include "ep/low_precision.hpp"
#include "ep/matmul.hpp"
#include "layer_bench/random_experts.hpp"
#include "metro/error.hpp"
#include "support/moe_ranks.hpp"

namespace metro::test {
namespace {

using ep::from_bf16;
using ep::from_e4m3;
using ep::to_bf16;
using ep::to_e4m3;

TEST(LowPrecision, KnownBf16) {
  EXPECT_EQ(to_bf16(1.0F), 0x3f80);
  EXPECT_EQ(to_bf16(-2.5F), 0xc020);
  EXPECT_EQ(to_bf16(1.0F + 0x1p-8F), 0x3f80);            // halfway: to even
  EXPECT_EQ(to_bf16(1.0F + 0x1p-7F + 0x1p-8F), 0x3f82);  // halfway: to even
  EXPECT_EQ(from_bf16(0x3f80), 1.0F);
}

TEST(LowPrecision, KnownE4m3) {
  EXPECT_EQ(to_e4m3(0.0F), 0x00);
  EXPECT_EQ(to_e4m3(1.0F), 0x38);
  EXPECT_EQ(to_e4m3(-1.5F), 0xbc);
  EXPECT_EQ(to_e4m3(448.0F), 0x7e);
  EXPECT_EQ(to_e4m3(1e9F), 0x7e);
  EXPECT_EQ(to_e4m3(0x1p-9F), 0x01);  // the smallest subnormal
  EXPECT_EQ(to_e4m3(0x1p-10F), 0x00);
  EXPECT_EQ(to_e4m3(0x1p-6F), 0x08);  // the smallest normal
  EXPECT_EQ(from_e4m3(0x01), 0x1p-9F);
  EXPECT_EQ(from_e4m3(0x7e), 448.0F);
}

TEST(LowPrecision, E4m3RoundsToTheNearestOfAllItsValues) {
  Rng rng(1);
  for (int i = 0; i < 20000; ++i) {
    const auto exponent = static_cast<int>(rng.below(22)) - 13;
    const auto value = static_cast<float>(std::ldexp(2 * rng.uniform() - 1, exponent));
    const float rounded = from_e4m3(to_e4m3(value));
    for (int code = 0; code < 256; ++code) {
      if ((code & 0x7f) == 0x7f) continue;  // NaN
      const float other = from_e4m3(static_cast<std::uint8_t>(code));
      ASSERT_LE(std::abs(double{rounded} - value), std::abs(double{other} - value)) << value;
    }
  }
}

TEST(RandomWeights, ShardsAreParts) {
  constexpr int kHidden = 6;
  constexpr int kWidth = 7;
  const layer_bench::RandomExpert whole(DataType::kFloat32, kHidden, kWidth, {0, kWidth}, 3, 5);
  const auto* gate_up = static_cast<const float*>(whole.view().gate_up.values);
  const auto* down = static_cast<const float*>(whole.view().down.values);
  int covered = 0;
  for (int rank = 0; rank < 3; ++rank) {
    const ep::Shard shard = ep::shard_of(kWidth, rank, 3);
    const layer_bench::RandomExpert part(DataType::kFloat32, kHidden, kWidth, shard, 3, 5);
    const auto* part_gate_up = static_cast<const float*>(part.view().gate_up.values);
    const auto* part_down = static_cast<const float*>(part.view().down.values);
    for (int i = 0; i < shard.width(); ++i, ++covered) {
      for (int h = 0; h < kHidden; ++h) {
        const int row = shard.begin + i;
        EXPECT_EQ(part_gate_up[i * kHidden + h], gate_up[row * kHidden + h]);
        EXPECT_EQ(part_gate_up[(shard.width() + i) * kHidden + h],
                  gate_up[(kWidth + row) * kHidden + h]);
        EXPECT_EQ(part_down[h * shard.width() + i], down[h * kWidth + row]);
      }
    }
  }
  EXPECT_EQ(covered, kWidth);
}

float value_at(const ep::WeightMatrix& w, std::size_t row, std::size_t col) {
  const auto cols = static_cast<std::size_t>(w.cols);
  const std::size_t i = row * cols + col;
  switch (w.type) {
    case DataType::kFloat32:
      return static_cast<const float*>(w.values)[i];
    case DataType::kBf16:
      return from_bf16(static_cast<const std::uint16_t*>(w.values)[i]);
    default:
      return from_e4m3(static_cast<const std::uint8_t*>(w.values)[i]) *
             w.scales[row / 128 * ((cols + 127) / 128) + col / 128];
  }
}

TEST(Matmul, EveryKernelMultipliesEveryType) {
  constexpr int kRows[] = {0, 1, 2, 5, 17};
  for (const ep::MatmulInfo& kernel : ep::matmul_kernels()) {
    for (const DataType type : {DataType::kFloat32, DataType::kBf16, DataType::kFp8}) {
      if (!kernel.supports(type)) continue;
      SCOPED_TRACE(std::string(kernel.name) + " " + std::string(data_type_name(type)));
      // Above one panel and one block of scales, and no multiple of either.
      const layer_bench::RandomExpert expert(type, 150, 1000, {0, 1000}, 1, 2);
      std::vector<float> scales;
      ep::WeightMatrix w = expert.view().gate_up;
      for (std::size_t i = 0; w.scales != nullptr && i < 16 * 2; ++i) {
        scales.push_back(0.01F * static_cast<float>(i + 1));  // each block its own
      }
      if (!scales.empty()) w.scales = scales.data();
      const auto matmul = kernel.make();
      for (const int rows : kRows) {
        const auto x = random_tokens(rows, w.cols, 9);
        std::vector<float> y(static_cast<std::size_t>(rows) * static_cast<std::size_t>(w.rows), 7);
        matmul->run(x.data(), rows, w, y.data());
        for (std::size_t i = 0; i < y.size(); ++i) {
          const std::size_t row = i / static_cast<std::size_t>(w.rows);
          const std::size_t n = i % static_cast<std::size_t>(w.rows);
          double sum = 0;
          double size = 0;
          for (std::size_t col = 0; col < static_cast<std::size_t>(w.cols); ++col) {
            const double term =
                double{x[row * static_cast<std::size_t>(w.cols) + col]} * value_at(w, n, col);
            sum += term;
            size += std::abs(term);
          }
          const double tolerance =  // bf16 kernels may round x as well
              size * (kernel.name == "onednn" && type == DataType::kBf16 ? 0x1p-8 : 1e-6);
          ASSERT_NEAR(y[i], sum, tolerance) << "rows " << rows << ", at " << row << ", " << n;
        }
      }
    }
  }
}

TEST(Matmul, AnUnknownKernelIsNamed) {
  try {
    ep::make_matmul("mkl", DataType::kFloat32);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    EXPECT_NE(std::string(error.what()).find("plain"), std::string::npos);
  }
}

ep::LayerShape gate_shape(int experts, int topk) {
  ep::LayerShape shape;
  shape.hidden = 1;
  shape.intermediate = 1;
  shape.num_experts = experts;
  shape.topk = topk;
  return shape;
}

TEST(Topk, TiesGoToTheLowestIdAndNanIsLast) {
  ep::TopkChooser chooser(gate_shape(5, 3));
  std::vector<std::int32_t> ids(3);
  std::vector<float> weights(3);
  chooser.choose(std::vector<float>{1, NAN, 2, 1, 1}, ids, weights);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{2, 0, 3}));
  EXPECT_NEAR(weights[0] + weights[1] + weights[2], 1.0, 1e-6);
  EXPECT_NEAR(weights[0] / weights[1], std::exp(1.0), 1e-5);
}

TEST(Topk, ExtremeLogitsStayFinite) {
  ep::TopkChooser chooser(gate_shape(3, 2));
  std::vector<std::int32_t> ids(2);
  std::vector<float> weights(2);
  const float infinity = std::numeric_limits<float>::infinity();
  chooser.choose(std::vector<float>{-infinity, infinity, 3e38F}, ids, weights);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{1, 2}));
  EXPECT_FLOAT_EQ(weights[0] + weights[1], 1.0F);
}

TEST(Topk, GroupsLimitTheChoice) {
  ep::LayerShape shape = gate_shape(6, 2);
  shape.gate = {.score = GateScore::kSigmoid,
                .num_groups = 3,
                .topk_groups = 1,
                .normalise_weights = false,
                .weight_scale = 2};
  ep::TopkChooser chooser(shape);
  std::vector<std::int32_t> ids(2);
  std::vector<float> weights(2);
  // The best expert's group has a poor second: the middle group's two sum higher.
  chooser.choose(std::vector<float>{5, -9, 2, 2, 0, 1}, ids, weights);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{2, 3}));
  EXPECT_NEAR(weights[0], 2 / (1 + std::exp(-2.0)), 1e-6);
}

}  // namespace
}  // namespace metro::test
