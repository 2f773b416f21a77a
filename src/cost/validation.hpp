// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/serving_point.hpp"
#include "cost/error_summary.hpp"
#include "metro/calibration.hpp"

namespace metro::cost {

struct PredictedPoint {
  const ServingPoint* point;
  double ttft_ms;
  double tpot_ms;
};

struct PairError {
  std::string model;
  std::string gpu;
  int measurements = 0;
  double tpot_mape = 0;
  double ttft_mape = 0;
};

struct SkippedPoint {
  std::string id;
  std::string why;
};

struct Validation {
  int measurements = 0;
  ErrorSummary tpot;
  ErrorSummary ttft;
  std::vector<PairError> by;  ///< in the order of first appearance
  /// Mean distance of a measurement's TPOT from the mean of its group, in per cent, over groups
  /// that were measured more than once: what no prediction by configuration can beat.
  double repeat_spread = 0;
  std::vector<SkippedPoint> skipped;
  std::vector<PredictedPoint> points;  ///< in the table's order; they point into it
};

/// Predicts every row of a table of measured serving points, and compares. Rows of one measurement
/// share its weight. Throws Error{kInput} for a model or GPU that nobody knows.
Validation validate_serving(std::span<const ServingPoint> table, std::string_view file,
                            const Calibration* calibration = nullptr);

}  // namespace metro::cost
