// SPDX-License-Identifier: Apache-2.0
// The unit of an fp8 row's sums, under scales that no quantiser should write.
#include "ep/cuda/sum_unit.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

#include "core/rng.hpp"

namespace metro::ep::cuda {
namespace {

float factor_of(const SumUnit& unit) {
  return std::bit_cast<float>(unit.weight_factor() << 16) * 0x1p-120F;
}

/// A row's product as the kernel makes it: one weight and one token value a block.
float row_product(const std::vector<float>& scales, const std::vector<float>& products) {
  SumUnit unit;
  float sum = 0;
  for (std::size_t block = 0; block < scales.size(); ++block) {
    sum *= unit.take(scales[block]);
    sum += factor_of(unit) * products[block];
  }
  return sum * unit.value();
}

double true_product(const std::vector<float>& scales, const std::vector<float>& products) {
  double sum = 0;
  for (std::size_t block = 0; block < scales.size(); ++block) {
    sum += double{scales[block]} * double{products[block]};
  }
  return sum;
}

TEST(SumUnit, AScaleOfZeroCountsForNothing) {
  EXPECT_EQ(row_product({0.5F, 0, 0.25F}, {8, 1000, 4}), 5.0F);
  EXPECT_EQ(row_product({0, 0.25F}, {1000, 4}), 1.0F);
  EXPECT_EQ(row_product({0.5F, 0}, {8, 1000}), 4.0F);
  EXPECT_EQ(row_product({0, 0}, {1000, 1000}), 0.0F);
}

TEST(SumUnit, ADenormalScaleIsNoInfinity) {
  EXPECT_EQ(row_product({1e-40F, 0.25F}, {0, 4}), 1.0F);
  EXPECT_EQ(row_product({0.25F, 1e-40F}, {4, 1000}), 1.0F);
  EXPECT_EQ(row_product({0.25F, 1.2e-38F, 0.25F}, {4e4F, 1000, 4}), 10001.0F);
  EXPECT_EQ(row_product({1e-45F, 1e-45F}, {448, 448}), 0.0F);
}

TEST(SumUnit, AScaleThatIsNoNumberShows) {
  EXPECT_TRUE(std::isnan(row_product({1, NAN, 1}, {1, 1, 1})));
}

TEST(SumUnit, HoldsForScalesOfAnySize) {
  Rng rng(3);
  for (std::uint32_t round = 0; round < 20000; ++round) {
    std::vector<float> scales;
    std::vector<float> products;
    double size = 0;
    double largest = 0;
    for (std::uint32_t block = 0; block < 1 + round % 40; ++block) {
      const int exponent = static_cast<int>(rng.below(240)) - 149;
      float scale = std::ldexp(static_cast<float>(1 + rng.uniform()), exponent);
      if (rng.below(8) == 0) scale = 0;
      if (rng.below(8) == 0) scale = -scale;
      const float product = rng.below(4) == 0 ? 0 : static_cast<float>(1000 * rng.uniform() - 500);
      scales.push_back(scale);
      products.push_back(product);
      largest = std::max(largest, std::abs(double{scale}));
      size += std::abs(double{scale} * double{product});
    }
    const float got = row_product(scales, products);
    ASSERT_TRUE(std::isfinite(got)) << "round " << round;
    // Against the sum of the sizes, since values may cancel; denormal scales count for nothing, nor
    // do those far below the largest.
    ASSERT_LE(std::abs(double{got} - true_product(scales, products)),
              1e-5 * size + 1e-25 * largest + 1e-34)
        << "round " << round;
  }
}

}  // namespace
}  // namespace metro::ep::cuda
