// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>

#include "core/kernel_constants.hpp"

namespace metro::cost {

/// (a^p + b^p)^(1/p): the larger of two times, plus what they overlap badly where they are alike.
inline double smooth_max(double a, double b, double p) noexcept {
  const double high = std::max(a, b);
  const double low = std::min(a, b);
  if (!(high > 0)) return 0;
  const double ratio = low / high;
  if (ratio < 1e-3 && p > 1.5) return high;  // the common case, without two powers
  return high * std::pow(1 + std::pow(ratio, p), 1 / p);
}

/// A roofline on one GPU, in microseconds.
class KernelTime {
 public:
  KernelTime() = default;
  KernelTime(const Roofline& roofline, double memory_bytes_per_s, double flops,
             double fixed_scale) noexcept
      : fixed_us_(roofline.fixed_us * fixed_scale),
        us_per_byte_(1e6 / (roofline.memory_efficiency * memory_bytes_per_s)),
        us_per_operation_(1e6 / (roofline.compute_efficiency * flops)),
        sharpness_(roofline.sharpness) {}

  [[nodiscard]] double us(double bytes, double operations) const noexcept {
    return fixed_us_ + smooth_max(bytes * us_per_byte_, operations * us_per_operation_, sharpness_);
  }

 private:
  double fixed_us_ = 0;
  double us_per_byte_ = 0;
  double us_per_operation_ = 0;
  double sharpness_ = 1;
};

}  // namespace metro::cost
