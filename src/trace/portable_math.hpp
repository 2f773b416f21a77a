// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>

#include "core/rng.hpp"

/// Functions of +, *, / and sqrt alone, which IEEE rounds alike everywhere; libm may differ by
/// version and CPU in the last bit, and one bit changes a trace. Compile users with
/// -ffp-contract=off.
namespace metro {

/// exp(x) for |x| <= 700, to about 1e-10.
inline double portable_exp(double x) noexcept {
  constexpr double kLn2 = 0.6931471805599453;
  const double whole = std::floor(x / kLn2 + 0.5);
  const double r = x - whole * kLn2;  // |r| <= 0.35
  double sum = 1;
  for (int n = 9; n >= 1; --n) sum = 1 + sum * r / n;
  return std::ldexp(sum, static_cast<int>(whole));
}

/// Standard normal to a very good approximation: the sum of twelve 16-bit uniforms, within +-6.
inline double portable_normal(Rng& rng) noexcept {
  constexpr std::uint64_t kLow = 0x0000ffff0000ffffULL;
  std::uint64_t pairs = 0;  // two 32-bit sums of six
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t bits = rng.next();
    pairs += (bits & kLow) + ((bits >> 16) & kLow);
  }
  const std::uint64_t sum = (pairs & 0xffffffffULL) + (pairs >> 32);
  constexpr double kMean = 12 * 65535 / 2.0;
  return (static_cast<double>(sum) - kMean) / 65536.0;
}

}  // namespace metro
