// SPDX-License-Identifier: Apache-2.0
#include "cost/expert_time.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "cost/calibration_fit.hpp"
#include "cost/roofline.hpp"

namespace metro::cost {
namespace {

const Calibration::ExpertTime* find_measured(const Calibration* calibration, int hidden,
                                             int intermediate, DataType weights) {
  if (calibration == nullptr) return nullptr;
  for (const Calibration::ExpertTime& entry : calibration->experts) {
    if (entry.hidden == hidden && entry.intermediate == intermediate && entry.weights == weights) {
      return &entry;
    }
  }
  return nullptr;
}

}  // namespace

ExpertTime::ExpertTime(const GpuSpec& gpu, std::string_view engine, double kernel_scale, int hidden,
                       int intermediate, DataType weights, const Calibration* calibration)
    : phi_us_(static_cast<std::size_t>(kTableSize)) {
  const ExpertKernel& kernel = expert_kernel(architecture_of(gpu), engine, weights);
  const double us_per_byte = 1e6 / gpu.memory_bytes_per_s;
  permute_us_per_token_ = kernel.token_bytes * hidden * us_per_byte;
  base_us_ = kernel.base_us * kernel_scale;

  const double parameters = 3.0 * hidden * intermediate;
  const double stream_us = kernel.replica_us + parameters * bytes_per_value(weights) * us_per_byte /
                                                   kernel.memory_efficiency;
  const double multiply_us = 2e6 * parameters / (kernel.compute_efficiency * gpu.flops(weights));
  const double row_us = kernel.row_bytes * hidden * us_per_byte;
  const auto* measured = find_measured(calibration, hidden, intermediate, weights);
  if (measured != nullptr) base_us_ = measured->base_us;
  const auto phi = [&](double tokens) {
    if (measured != nullptr) return cost::phi_us(*measured, tokens);
    return smooth_max(stream_us, multiply_us * tokens, kernel.sharpness) + row_us * tokens;
  };
  for (std::size_t n = 1; n < phi_us_.size(); ++n) phi_us_[n] = phi(static_cast<double>(n));
  slope_us_ = (phi(4.0 * kTableSize) - phi_us_.back()) / (3.0 * kTableSize + 1);
}

double ExpertTime::phi_us(double tokens) const noexcept {
  if (!(tokens > 0)) return 0;
  const double floor = std::floor(std::max(tokens, 1.0));
  const auto below = static_cast<std::int64_t>(floor);
  const double fraction = std::max(tokens, 1.0) - floor;
  return phi_us(below) + (phi_us(below + 1) - phi_us(below)) * fraction;
}

void ExpertTime::add_to(io::Sha256& digest) const noexcept {
  for (const std::span<const double> part :
       {std::span(&base_us_, 1), std::span(&slope_us_, 1), std::span<const double>(phi_us_)}) {
    digest.update(std::as_bytes(part));
  }
}

}  // namespace metro::cost
