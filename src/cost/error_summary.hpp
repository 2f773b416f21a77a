// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace metro::cost {

/// Errors of one unit: per cent of the measured value, or points.
struct ErrorSummary {
  double mape = 0;  ///< mean of the absolute errors
  double median = 0;
  double p90 = 0;
  double bias = 0;  ///< mean of the signed errors; above 0: predictions are too high
};

/// Of signed errors; all 0 where there are none.
ErrorSummary summarise_errors(const std::vector<double>& errors);

double mean_of(const std::vector<double>& values);

}  // namespace metro::cost
