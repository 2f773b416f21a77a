// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "device_test.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/slot_table.hpp"
#include "ep/low_precision.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

using test::DeviceVector;

struct Problem {
  int hidden = 256;
  int intermediate = 96;
  int topk = 4;
  int num_tokens = 33;
  int num_slots = 7;
  int first_slot = 3;
  DataType weights = DataType::kBf16;
  double masked = 0.1;
  bool hot = false;       ///< most tokens go to one slot
  bool poison = false;    ///< the first token is not a number
  int shared_limit = 0;   ///< as of a device with less shared memory
  float odd_scale = -1;   ///< if not negative: the scale of every fourth fp8 block
  bool integers = false;  ///< values that no step of the stage has to round
  std::string_view kernel = {};
};

constexpr std::uint16_t kNan = 0x7fff;  // in bf16

int blocks(int size) { return (size + 127) / 128; }

/// The stage and a plain reading of its definition over the same random inputs.
class Instance {
 public:
  Instance(const Problem& problem, unsigned seed) : p_(problem), random_(seed) {
    for (int slot = 0; slot < p_.num_slots; ++slot) {
      add_matrix(2 * p_.intermediate, p_.hidden, up_, up_scales_);
      add_matrix(p_.hidden, p_.intermediate, down_, down_scales_);
    }
    std::uniform_int_distribution<int> any(0, p_.num_slots + p_.first_slot + 2);
    std::uniform_real_distribution<double> unit(0, 1);
    for (int i = 0; i < p_.num_tokens * p_.topk; ++i) {
      int id = any(random_);
      if (p_.hot && unit(random_) < 0.8) id = p_.first_slot;
      ids_.push_back(unit(random_) < p_.masked ? -1 : id);
      topk_weights_.push_back(static_cast<float>(unit(random_)));
    }
    if (p_.integers) {
      make_integers();
      return;
    }
    std::normal_distribution<float> normal;
    for (int i = 0; i < p_.num_tokens * p_.hidden; ++i) tokens_.push_back(to_bf16(normal(random_)));
    if (p_.poison) std::fill_n(tokens_.begin(), p_.hidden, kNan);
  }

  /// `quantized`: tokens and activations in e4m3, as a kernel may have them.
  std::vector<float> reference(bool quantized) const {
    std::vector<float> out(tokens_.size());
    for (int t = 0; t < p_.num_tokens; ++t) {
      std::vector<double> sum(size(p_.hidden));
      for (int k = 0; k < p_.topk; ++k) {
        const int slot = ids_[size(t * p_.topk + k)] - p_.first_slot;
        if (slot < 0 || slot >= p_.num_slots) continue;
        std::vector<float> x(tokens_f(t));
        if (quantized) round_to_fp8(x);
        const std::vector<double> both =
            multiply(up_[size(slot)], up_scales_[size(slot)], 2 * p_.intermediate, x);
        std::vector<float> inner;
        for (int i = 0; i < p_.intermediate; ++i) {
          const double gate = both[size(i)];
          inner.push_back(from_bf16(to_bf16(
              static_cast<float>(gate / (1 + std::exp(-gate)) * both[size(i + p_.intermediate)]))));
        }
        if (quantized) round_to_fp8(inner);
        const std::vector<double> y =
            multiply(down_[size(slot)], down_scales_[size(slot)], p_.hidden, inner);
        for (int i = 0; i < p_.hidden; ++i)
          sum[size(i)] += double{topk_weights_[size(t * p_.topk + k)]} * y[size(i)];
      }
      for (int i = 0; i < p_.hidden; ++i)
        out[size(t * p_.hidden + i)] = static_cast<float>(sum[size(i)]);
    }
    return out;
  }

  [[nodiscard]] ExpertStage make_stage() const {
    return ExpertStage({p_.hidden, p_.intermediate, p_.topk, p_.num_tokens + 5, p_.num_slots,
                        p_.weights, p_.shared_limit, p_.kernel});
  }

  /// `twice`: the stage runs on other weights first, and again on the same permutation.
  std::vector<float> run(ExpertStage& stage, bool twice = false) const {
    test::Stream stream;
    const DeviceVector<std::int32_t> ids(ids_);
    const DeviceVector<float> topk_weights(topk_weights_);
    const DeviceVector<std::uint16_t> tokens(tokens_);
    const DeviceVector<std::uint16_t> out(std::vector<std::uint16_t>(tokens_.size(), kNan));
    std::vector<DeviceVector<std::uint8_t>> matrices;
    std::vector<DeviceVector<float>> scales;
    std::vector<ExpertPointers> pointers;
    for (int slot = 0; slot < p_.num_slots; ++slot) {
      for (int side = 0; side < 2; ++side) {
        matrices.emplace_back((side == 0 ? up_ : down_)[size(slot)]);
        scales.emplace_back((side == 0 ? up_scales_ : down_scales_)[size(slot)]);
      }
      const std::size_t up = matrices.size() - 2;
      pointers.push_back(
          {matrices[up].data(), matrices[up + 1].data(), scales[up].data(), scales[up + 1].data()});
    }
    const WeightShape shape{p_.hidden, p_.intermediate, p_.weights};
    SlotTable table(shape, p_.num_slots, 0);
    table.update({}, pointers, stream);
    SlotTable others(shape, p_.num_slots, 0);
    std::reverse(pointers.begin(), pointers.end());
    others.update({}, pointers, stream);
    for (int again = 0; again < 2; ++again) {  // the second call finds what the first left
      stage.permute(ids.data(), bf16(tokens), p_.num_tokens, p_.first_slot, stream);
      if (twice) {
        stage.run(bf16(tokens), others.weights(), stream);
        stream.wait();
      }
      stage.run(bf16(tokens), table.weights(), stream);
      stage.combine(topk_weights.data(), p_.num_tokens, bf16(out), stream);
    }
    stream.wait();
    std::vector<float> result;
    for (const std::uint16_t value : out.read()) result.push_back(from_bf16(value));
    return result;
  }

 private:
  static std::size_t size(int value) { return static_cast<std::size_t>(value); }
  static __nv_bfloat16* bf16(const DeviceVector<std::uint16_t>& values) {
    return reinterpret_cast<__nv_bfloat16*>(values.data());
  }
  std::vector<float> tokens_f(int token) const {
    std::vector<float> x;
    for (int i = 0; i < p_.hidden; ++i)
      x.push_back(from_bf16(tokens_[size(token * p_.hidden + i)]));
    return x;
  }

  /// Each 128 values by their largest.
  static void round_to_fp8(std::vector<float>& values) {
    for (std::size_t first = 0; first < values.size(); first += 128) {
      const std::size_t end = std::min(first + 128, values.size());
      float most = 0;
      for (std::size_t i = first; i < end; ++i) most = std::max(most, std::abs(values[i]));
      for (std::size_t i = first; i < end; ++i) {
        if (most > 0) values[i] = from_e4m3(to_e4m3(values[i] * (448 / most))) * (most / 448);
      }
    }
  }

  void set(std::vector<std::uint8_t>& matrix, int index, float value) const {
    if (p_.weights == DataType::kFp8) {
      matrix[size(index)] = to_e4m3(value);
    } else {
      matrix[size(2 * index)] = static_cast<std::uint8_t>(to_bf16(value) & 0xff);
      matrix[size(2 * index + 1)] = static_cast<std::uint8_t>(to_bf16(value) >> 8);
    }
  }

  /// Tokens are -1, 0 and 1, and the first of each 128 is 1.75 with no weight, so that its e4m3
  /// scale is 2^-8. The gate is 64, whose silu is 64. The up projection is -7 to 7, and 7 in the
  /// first of each 128 features: activations are multiples of 64 up to 448, whose scale is 1.
  void make_integers() {
    std::uniform_int_distribution<int> sign(-1, 1);
    std::uniform_int_distribution<int> column(2, p_.hidden - 1);
    for (int i = 0; i < p_.num_tokens * p_.hidden; ++i) {
      const int at = i % p_.hidden;
      const float value = at % 128 == 0 ? 1.75F
                          : at == 1     ? 1.0F
                                        : static_cast<float>(sign(random_));
      tokens_.push_back(to_bf16(value));
    }
    for (float& weight : topk_weights_) weight = 0.5F;
    for (int slot = 0; slot < p_.num_slots; ++slot) {
      std::vector<std::uint8_t>& up = up_[size(slot)];
      std::vector<std::uint8_t>& down = down_[size(slot)];
      std::fill(up.begin(), up.end(), std::uint8_t{0});
      std::fill(up_scales_[size(slot)].begin(), up_scales_[size(slot)].end(), 1.0F);
      std::fill(down_scales_[size(slot)].begin(), down_scales_[size(slot)].end(), 0.5F);
      for (int row = 0; row < p_.intermediate; ++row) {
        set(up, row * p_.hidden + 1, 64);
        const int other = (p_.intermediate + row) * p_.hidden;
        if (row % 128 == 0) {
          set(up, other + 1, 7);
          continue;
        }
        for (int i = 0; i < 7; ++i) {
          const int at = column(random_);
          if (at % 128 != 0) set(up, other + at, static_cast<float>(sign(random_)));
        }
      }
      for (int i = 0; i < p_.hidden * p_.intermediate; ++i) {
        set(down, i, static_cast<float>(sign(random_)));
      }
    }
  }

  void add_matrix(int rows, int cols, std::vector<std::vector<std::uint8_t>>& matrices,
                  std::vector<std::vector<float>>& scales) {
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(cols)));
    std::vector<std::uint8_t> bytes;
    for (int i = 0; i < rows * cols; ++i) {
      if (p_.weights == DataType::kFp8) {
        bytes.push_back(to_e4m3(normal(random_) * 64));
      } else {
        const std::uint16_t value = to_bf16(normal(random_));
        bytes.push_back(static_cast<std::uint8_t>(value & 0xff));
        bytes.push_back(static_cast<std::uint8_t>(value >> 8));
      }
    }
    std::uniform_real_distribution<float> scale(0.5F / 64, 2.0F / 64);
    std::vector<float> all(size(blocks(rows) * blocks(cols)));
    for (float& value : all) value = scale(random_);
    if (p_.odd_scale >= 0) {
      const std::size_t first = random_() % 4;
      for (std::size_t i = first; i < all.size(); i += 4) all[i] = p_.odd_scale;
    }
    matrices.push_back(std::move(bytes));
    scales.push_back(std::move(all));
  }

  std::vector<double> multiply(const std::vector<std::uint8_t>& matrix,
                               const std::vector<float>& scales, int rows,
                               const std::vector<float>& x) const {
    const int cols = static_cast<int>(x.size());
    std::vector<double> y(size(rows));
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < cols; ++c) {
        const std::size_t i = size(r * cols + c);
        const double weight = p_.weights == DataType::kFp8
                                  ? double{from_e4m3(matrix[i])} *
                                        double{scales[size(r / 128 * blocks(cols) + c / 128)]}
                                  : double{from_bf16(static_cast<std::uint16_t>(
                                        matrix[2 * i] | matrix[2 * i + 1] << 8))};
        y[size(r)] += weight * double{x[size(c)]};
      }
    }
    return y;
  }

  Problem p_;
  std::mt19937 random_;
  std::vector<std::vector<std::uint8_t>> up_;
  std::vector<std::vector<std::uint8_t>> down_;
  std::vector<std::vector<float>> up_scales_;
  std::vector<std::vector<float>> down_scales_;
  std::vector<std::int32_t> ids_;
  std::vector<float> topk_weights_;
  std::vector<std::uint16_t> tokens_;
};

/// Runs with each kernel of the table; those that do not serve this device are skipped.
class ExpertStageTest : public test::DeviceTest,
                        public testing::WithParamInterface<std::string_view> {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    if (IsSkipped()) return;
    try {
      ExpertStage({256, 96, 4, 8, 4, DataType::kBf16, 0, GetParam()});
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }

  /// Every token by its own largest value: a norm over all would hide a row that is wrong.
  static void check(Problem problem, unsigned seed, bool twice = false) {
    problem.kernel = GetParam();
    const Instance instance(problem, seed);
    ExpertStage stage = instance.make_stage();
    ASSERT_EQ(stage.kernel_name(), GetParam());
    const std::vector<float> expected = instance.reference(stage.quantizes());
    const std::vector<float> got = instance.run(stage, twice);
    ASSERT_EQ(got.size(), expected.size());
    for (int token = problem.poison ? 1 : 0; token < problem.num_tokens; ++token) {
      const auto begin = static_cast<std::size_t>(token * problem.hidden);
      float largest = 0;
      float error = 0;
      double squares = 0;
      double error_squares = 0;
      for (std::size_t i = begin; i < begin + static_cast<std::size_t>(problem.hidden); ++i) {
        ASSERT_TRUE(std::isfinite(got[i])) << "token " << token << ", value " << i - begin;
        largest = std::max(largest, std::abs(expected[i]));
        error = std::max(error, std::abs(got[i] - expected[i]));
        squares += std::pow(double{expected[i]}, 2);
        error_squares += std::pow(double{got[i]} - double{expected[i]}, 2);
      }
      // An activation near the middle of two e4m3 values may become either, 1/8 apart.
      ASSERT_LE(error, (stage.quantizes() ? 1e-1F : 3e-2F) * largest)
          << "token " << token << ", seed " << seed;
      ASSERT_LE(std::sqrt(error_squares), (stage.quantizes() ? 6e-2 : 1e-2) * std::sqrt(squares))
          << "token " << token << ", seed " << seed;
    }
  }
};

TEST_P(ExpertStageTest, EqualsItsDefinition) {
  unsigned seed = 0;
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    for (const int hidden : {128, 176, 512}) {
      for (const int intermediate : {16, 48, 96, 768}) {
        for (const int tokens : {1, 9, 33, 150}) {
          check({.hidden = hidden,
                 .intermediate = intermediate,
                 .num_tokens = tokens,
                 .weights = type},
                ++seed);
        }
      }
    }
  }
}

/// Bit for bit: every sum is a number that float32 holds, and each value is rounded once, to bf16.
TEST_P(ExpertStageTest, IsExactWhereNothingIsRounded) {
  unsigned seed = 0;
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    for (const auto& [hidden, intermediate] :
         {std::pair(256, 96), std::pair(7168, 256), std::pair(384, 768)}) {
      for (const int tokens : {1, 2, 12, 25, 50, 100, 200}) {
        Problem problem{.hidden = hidden,
                        .intermediate = intermediate,
                        .topk = 1,
                        .num_tokens = tokens,
                        .num_slots = 2,
                        .first_slot = 0,
                        .weights = type,
                        .integers = true};
        problem.kernel = GetParam();
        const Instance instance(problem, ++seed);
        ExpertStage stage = instance.make_stage();
        const std::vector<float> expected = instance.reference(stage.quantizes());
        const std::vector<float> got = instance.run(stage);
        for (std::size_t i = 0; i < got.size(); ++i) {
          const float once = 0.5F * from_bf16(to_bf16(2 * expected[i]));
          ASSERT_EQ(got[i], once) << "value " << i << ", seed " << seed << ", " << tokens;
        }
      }
    }
  }
}

/// More blocks of scales than a warp holds at once (4,096 values).
TEST_P(ExpertStageTest, MultipliesDeepRows) {
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    for (const int tokens : {3, 40}) {
      for (const auto& [hidden, intermediate] : {std::pair(7168, 256), std::pair(128, 4608)}) {
        check({.hidden = hidden,
               .intermediate = intermediate,
               .topk = 2,
               .num_tokens = tokens,
               .num_slots = 3,
               .first_slot = 0,
               .weights = type},
              static_cast<unsigned>(tokens));
      }
    }
  }
}

/// Of every fourth fp8 block: nothing, what no quantiser writes, and one far below the rest.
TEST_P(ExpertStageTest, TakesScalesOfAnySize) {
  for (const float scale : {0.0F, 1e-45F, 1e-40F, 1.2e-38F, 1e-25F, 1e4F}) {
    for (const int tokens : {3, 70}) {
      check({.hidden = 1024,
             .intermediate = 384,
             .topk = 2,
             .num_tokens = tokens,
             .num_slots = 3,
             .first_slot = 0,
             .weights = DataType::kFp8,
             .odd_scale = scale},
            static_cast<unsigned>(tokens));
    }
  }
}

TEST_P(ExpertStageTest, RunsAgainOnTheSamePermutation) {
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    check({.weights = type}, 3, true);
    check({.hidden = 2048, .intermediate = 768, .num_tokens = 100, .weights = type}, 4, true);
  }
}

constexpr Problem kManySlots{.hidden = 128, .intermediate = 16, .num_tokens = 40, .num_slots = 500};

/// Shared memory beyond 48 kB is allowed for each device by itself.
TEST_P(ExpertStageTest, ServesManySlotsOnEveryDevice) {
  int devices = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&devices));
  for (int device = 0; device < devices; ++device) {
    METRO_CUDA_CHECK(cudaSetDevice(device));
    check(kManySlots, 5);
  }
  METRO_CUDA_CHECK(cudaSetDevice(0));
  if (devices < 2) GTEST_SKIP() << "one GPU: passed there, not tried on a second";
}

/// A device that was reset knows nothing of what was allowed before: as good as a second one.
TEST_P(ExpertStageTest, ServesManySlotsAfterADeviceReset) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        check(kManySlots, 5);
        METRO_CUDA_CHECK(cudaDeviceReset());
        check(kManySlots, 6);
        std::_Exit(HasFailure() ? 1 : 0);
      },
      testing::ExitedWithCode(0), "");
}

TEST_P(ExpertStageTest, ServesAHotExpertInSeveralGroups) {
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    check({.num_tokens = 300, .weights = type, .hot = true}, 7);
    check({.hidden = 2048,
           .intermediate = 768,
           .topk = 8,
           .num_tokens = 40,
           .num_slots = 24,
           .weights = type},
          8);
  }
}

TEST_P(ExpertStageTest, FitsLessSharedMemory) {
  if (GetParam() == "hopper") GTEST_SKIP() << "needs the shared memory of Hopper";
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    for (const int tokens : {5, 70, 300}) {
      check({.num_tokens = tokens,
             .weights = type,
             .hot = true,
             .shared_limit = 163 * 1024},  // an A100's
            static_cast<unsigned>(tokens));
    }
  }
}

TEST_P(ExpertStageTest, KeepsATokenThatIsNoNumberToItself) {
  for (const int hidden : {128, 176}) {
    for (const int tokens : {5, 70}) {
      check({.hidden = hidden, .num_tokens = tokens, .masked = 0, .poison = true}, 11);
    }
  }
}

TEST_P(ExpertStageTest, WritesZerosWhereNothingIsServed) { check({.masked = 1.0}, 9); }

/// Needs no GPU: tokens and activations in e4m3 against the same weights without that rounding.
TEST(ExpertStageReference, RoundingToFp8CostsLittle) {
  const Instance instance({.hidden = 1024,
                           .intermediate = 512,
                           .topk = 1,
                           .num_tokens = 16,
                           .num_slots = 2,
                           .first_slot = 0,
                           .weights = DataType::kFp8,
                           .masked = 0},
                          12);
  const std::vector<float> exact = instance.reference(false);
  const std::vector<float> rounded = instance.reference(true);
  double squares = 0;
  double error_squares = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    squares += std::pow(double{exact[i]}, 2);
    error_squares += std::pow(double{rounded[i]} - double{exact[i]}, 2);
  }
  const double error = std::sqrt(error_squares / squares);
  RecordProperty("relative_error", std::to_string(error));
  std::cout << "relative error " << error << "\n";
  EXPECT_GT(error, 0.01);  // it does round
  EXPECT_LT(error, 0.06);
}

INSTANTIATE_TEST_SUITE_P(Kernels, ExpertStageTest, testing::Values("hopper", "portable"),
                         [](const auto& of) { return std::string(of.param); });

}  // namespace
}  // namespace metro::ep::cuda
