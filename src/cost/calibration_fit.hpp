// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "metro/calibration.hpp"

namespace metro::cost {

/// phi of the table: linear between its points and beyond the last two; below the first, the first.
double phi_us(const Calibration::ExpertTime& expert, double tokens);

/// base + the sum of phi: what the cost model says of a GPU with these activated experts.
double predict_us(const Calibration::ExpertTime& expert, std::span<const std::int32_t> tokens);

/// Sets base_us, phi_us and median_error from `points`: least squares of the relative errors, with
/// base >= 0 and phi rising. phi has an entry for each number of tokens that an expert had in some
/// point. Throws Error{kInput} without points.
void fit_expert_time(Calibration::ExpertTime& expert);

/// Sets alpha_us, beta_gb_s and median_error from `points`, likewise.
void fit_collective(Calibration::Collective& collective);

}  // namespace metro::cost
