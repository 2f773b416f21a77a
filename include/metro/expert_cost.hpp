// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace metro {

/// What the routed experts of one GPU cost in one layer: base + the sum of phi(tokens) over its
/// replicas that got a token. Data, for one kernel, number format and GPU (docs/cost-model.md).
struct ExpertTimes {
  std::vector<double> phi_us{0};  ///< [tokens]; phi_us[0] is 0, and it never falls
  double beyond_us = 0;           ///< for each token after the last of phi_us
  double base_us = 0;
};

/// ExpertTimes, checked, with what bounds need to know of them. Immutable; threads may share it.
///
/// Every value has the same bits on every machine: products and their sums are rounded once.
class ExpertCost {
 public:
  /// Any finite times. Throws Error{kInput} that names the field, its value and what would be
  /// right.
  explicit ExpertCost(ExpertTimes times);

  /// Linear between (tokens, us) points, tokens ascending from 1 up, and beyond the last two; below
  /// the first, the first: how a Calibration tells phi. Throws as the constructor.
  static ExpertCost from_points(std::span<const std::pair<std::int64_t, double>> points,
                                double base_us);

  /// What is used where nobody gave a cost: DeepSeek-V3's experts in bf16, as measured on an H100.
  static std::shared_ptr<const ExpertCost> standard();

  /// Microseconds of a replica with so many tokens: 0 of 0, and never falling.
  [[nodiscard]] double phi(std::int64_t tokens) const noexcept {
    const auto size = static_cast<std::int64_t>(times_.phi_us.size());
    if (tokens < size) return times_.phi_us[static_cast<std::size_t>(tokens)];
    return std::min(
        std::fma(times_.beyond_us, static_cast<double>(tokens - (size - 1)), times_.phi_us.back()),
        std::numeric_limits<double>::max());
  }

  /// At most the time of any split of the tokens over replicas, but for rounding: phi's subadditive
  /// closure, and for many tokens lines below it.
  [[nodiscard]] double least(std::int64_t tokens) const noexcept;

  [[nodiscard]] double base() const noexcept { return times_.base_us; }
  [[nodiscard]] const ExpertTimes& times() const noexcept { return times_; }

 private:
  ExpertTimes times_;
  std::vector<double> closure_;
  double least_per_token_ = 0;
  double least_fixed_ = 0;  // phi(n) >= this + n * beyond, for all n >= 1
};

}  // namespace metro
