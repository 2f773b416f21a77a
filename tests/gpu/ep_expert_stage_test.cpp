// SPDX-License-Identifier: Apache-2.0
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <utility>
#include <vector>

#include "device_test.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/low_precision.hpp"

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
  bool hot = false;      ///< most tokens go to one slot
  bool poison = false;   ///< the first token is not a number
  int shared_limit = 0;  ///< as of a device with less shared memory
  float odd_scale = -1;  ///< if not negative: the scale of every fourth fp8 block
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
    std::normal_distribution<float> normal;
    for (int i = 0; i < p_.num_tokens * p_.hidden; ++i) tokens_.push_back(to_bf16(normal(random_)));
    if (p_.poison) std::fill_n(tokens_.begin(), p_.hidden, kNan);
  }

  std::vector<float> reference() const {
    std::vector<float> out(tokens_.size());
    for (int t = 0; t < p_.num_tokens; ++t) {
      std::vector<double> sum(size(p_.hidden));
      for (int k = 0; k < p_.topk; ++k) {
        const int slot = ids_[size(t * p_.topk + k)] - p_.first_slot;
        if (slot < 0 || slot >= p_.num_slots) continue;
        const std::vector<float> x(tokens_f(t));
        const std::vector<double> both =
            multiply(up_[size(slot)], up_scales_[size(slot)], 2 * p_.intermediate, x);
        std::vector<float> inner;
        for (int i = 0; i < p_.intermediate; ++i) {
          const double gate = both[size(i)];
          inner.push_back(from_bf16(to_bf16(
              static_cast<float>(gate / (1 + std::exp(-gate)) * both[size(i + p_.intermediate)]))));
        }
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

  /// `twice`: the stage runs on other tokens first, and again on the same permutation.
  std::vector<float> run(bool twice = false) const {
    test::Stream stream;
    ExpertStage stage({p_.hidden, p_.intermediate, p_.topk, p_.num_tokens + 5, p_.num_slots,
                       p_.weights, p_.shared_limit});
    const DeviceVector<std::int32_t> ids(ids_);
    const DeviceVector<float> topk_weights(topk_weights_);
    const DeviceVector<std::uint16_t> tokens(tokens_);
    const DeviceVector<std::uint16_t> out(std::vector<std::uint16_t>(tokens_.size(), kNan));
    std::vector<DeviceVector<std::uint8_t>> matrices;
    std::vector<DeviceVector<float>> scales;
    std::vector<const void*> pointers[2];
    std::vector<const float*> scale_pointers[2];
    for (int slot = 0; slot < p_.num_slots; ++slot) {
      for (int side = 0; side < 2; ++side) {
        matrices.emplace_back((side == 0 ? up_ : down_)[size(slot)]);
        scales.emplace_back((side == 0 ? up_scales_ : down_scales_)[size(slot)]);
        pointers[side].push_back(matrices.back().data());
        scale_pointers[side].push_back(scales.back().data());
      }
    }
    const DeviceVector<const void*> ups(pointers[0]);
    const DeviceVector<const void*> downs(pointers[1]);
    const DeviceVector<const float*> up_scales(scale_pointers[0]);
    const DeviceVector<const float*> down_scales(scale_pointers[1]);
    for (int again = 0; again < 2; ++again) {  // the second call finds what the first left
      stage.permute(ids.data(), p_.num_tokens, p_.first_slot, stream);
      if (twice) {
        const DeviceVector<std::uint16_t> others(
            std::vector<std::uint16_t>(tokens_.rbegin(), tokens_.rend()));
        stage.run(bf16(others), {ups.data(), downs.data(), up_scales.data(), down_scales.data()},
                  stream);
        stream.wait();
      }
      stage.run(bf16(tokens), {ups.data(), downs.data(), up_scales.data(), down_scales.data()},
                stream);
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

class ExpertStageTest : public test::DeviceTest {
 protected:
  /// Every token by its own largest value: a norm over all would hide a row that is wrong.
  static void check(const Problem& problem, unsigned seed, bool twice = false) {
    const Instance instance(problem, seed);
    const std::vector<float> expected = instance.reference();
    const std::vector<float> got = instance.run(twice);
    ASSERT_EQ(got.size(), expected.size());
    for (int token = problem.poison ? 1 : 0; token < problem.num_tokens; ++token) {
      const auto begin = static_cast<std::size_t>(token * problem.hidden);
      float largest = 0;
      float error = 0;
      for (std::size_t i = begin; i < begin + static_cast<std::size_t>(problem.hidden); ++i) {
        ASSERT_TRUE(std::isfinite(got[i])) << "token " << token << ", value " << i - begin;
        largest = std::max(largest, std::abs(expected[i]));
        error = std::max(error, std::abs(got[i] - expected[i]));
      }
      ASSERT_LE(error, 3e-2F * largest) << "token " << token << ", seed " << seed;
    }
  }
};

TEST_F(ExpertStageTest, EqualsItsDefinition) {
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

/// More blocks of scales than a warp holds at once (4,096 values).
TEST_F(ExpertStageTest, MultipliesDeepRows) {
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
TEST_F(ExpertStageTest, TakesScalesOfAnySize) {
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

TEST_F(ExpertStageTest, RunsAgainOnTheSamePermutation) {
  for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
    check({.weights = type}, 3, true);
    check({.hidden = 2048, .intermediate = 768, .num_tokens = 100, .weights = type}, 4, true);
  }
}

constexpr Problem kManySlots{.hidden = 128, .intermediate = 16, .num_tokens = 40, .num_slots = 500};

/// Shared memory beyond 48 kB is allowed for each device by itself.
TEST_F(ExpertStageTest, ServesManySlotsOnEveryDevice) {
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
TEST_F(ExpertStageTest, ServesManySlotsAfterADeviceReset) {
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

TEST_F(ExpertStageTest, ServesAHotExpertInSeveralGroups) {
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

TEST_F(ExpertStageTest, FitsLessSharedMemory) {
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

TEST_F(ExpertStageTest, KeepsATokenThatIsNoNumberToItself) {
  for (const int hidden : {128, 176}) {
    for (const int tokens : {5, 70}) {
      check({.hidden = hidden, .num_tokens = tokens, .masked = 0, .poison = true}, 11);
    }
  }
}

TEST_F(ExpertStageTest, WritesZerosWhereNothingIsServed) { check({.masked = 1.0}, 9); }

}  // namespace
}  // namespace metro::ep::cuda
