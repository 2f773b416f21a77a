// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "cost/kernel_table.hpp"
#include "io/sha256.hpp"
#include "metro/calibration.hpp"
#include "metro/gpu.hpp"

namespace metro::cost {

/// Time of the routed experts of one GPU by tokens per replica, as a table: base + sum of phi.
class ExpertTime {
 public:
  /// Experts of `intermediate` columns each (a shard of the model's, where they are sharded).
  ExpertTime(const GpuSpec& gpu, std::string_view engine, double kernel_scale, int hidden,
             int intermediate, DataType weights, const Calibration* calibration);

  [[nodiscard]] double base_us() const noexcept { return base_us_; }

  [[nodiscard]] double phi_us(std::int64_t tokens) const noexcept {
    if (tokens <= 0) return 0;
    if (tokens < kTableSize) return phi_us_[static_cast<std::size_t>(tokens)];
    return phi_us_.back() + slope_us_ * static_cast<double>(tokens - (kTableSize - 1));
  }

  /// phi between whole tokens, for expectations; below 1 it is phi(1).
  [[nodiscard]] double phi_us(double tokens) const noexcept;

  /// Adds all that base and phi are computed from: times with one digest are the same function.
  void add_to(io::Sha256& digest) const noexcept;

  /// Sorting tokens by expert and summing results, for each token of the step over all GPUs.
  [[nodiscard]] double permute_us_per_token() const noexcept { return permute_us_per_token_; }

 private:
  static constexpr std::int64_t kTableSize = 2048;

  double base_us_ = 0;
  double slope_us_ = 0;
  double permute_us_per_token_ = 0;
  std::vector<double> phi_us_;
};

}  // namespace metro::cost
