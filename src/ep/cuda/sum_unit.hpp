// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define METRO_BOTH __host__ __device__ __forceinline__
#else
#define METRO_BOTH inline
#endif

namespace metro::ep::cuda {

/// The unit in which a row of an fp8 product keeps its sums, so that no block of 128 values needs
/// sums of its own: about the largest scale so far. The same source for the kernel and for its test
/// on the CPU.
///
/// A smaller scale makes its block's weights smaller, by a power of two, exactly; the unit never
/// falls, so that sums cannot overflow. A scale of 0 or a denormal one makes its block count for
/// nothing, whatever its bytes are, and so does one below 2^-100 of an earlier one.
class SumUnit {
 public:
  /// Goes on to a block of this scale. Returns what the sums so far are to be multiplied by.
  METRO_BOTH float take(float scale) {
    const int exponent = exponent_of(scale);
    const int above = exponent_of(value_) - exponent;
    shift_ = above > 0 ? above : 0;
    if (exponent == 0 || shift_ > kMostShift) {
      shift_ = kNothing;
      return 1;
    }
    const float unit = scale * float_of(static_cast<std::uint32_t>(127 + shift_) << 23);
    const float ratio = value_ / unit;
    value_ = unit;
    return ratio;
  }

  /// What the block's weights are to be multiplied by, times 2^120: a power of two, or 0. In bf16.
  METRO_BOTH std::uint32_t weight_factor() const {
    return shift_ == kNothing ? 0 : static_cast<std::uint32_t>(127 + 120 - shift_) << 7;
  }
  /// What the sums are to be multiplied by in the end.
  METRO_BOTH float value() const { return value_; }

 private:
  static constexpr int kMostShift = 100;  // the smallest weight, 2^-9, stays a normal bf16
  static constexpr int kNothing = 255;

  METRO_BOTH static float float_of(std::uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  /// As it is stored: 0 for 0 and for denormal values.
  METRO_BOTH static int exponent_of(float value) {
    std::uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return static_cast<int>(bits >> 23 & 0xFFU);
  }

  float value_ = 0;
  int shift_ = 0;
};

#undef METRO_BOTH

}  // namespace metro::ep::cuda
