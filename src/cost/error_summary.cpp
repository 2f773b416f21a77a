// SPDX-License-Identifier: Apache-2.0
#include "cost/error_summary.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace metro::cost {
namespace {

/// The value at rank ceil(p * n).
double quantile(std::vector<double> values, double p) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto rank = static_cast<std::size_t>(std::ceil(p * static_cast<double>(values.size())));
  return values[std::clamp<std::size_t>(rank, 1, values.size()) - 1];
}

}  // namespace

double mean_of(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              static_cast<double>(values.size());
}

ErrorSummary summarise_errors(const std::vector<double>& errors) {
  std::vector<double> absolute = errors;
  for (double& e : absolute) e = std::abs(e);
  return {mean_of(absolute), quantile(absolute, 0.5), quantile(absolute, 0.9), mean_of(errors)};
}

}  // namespace metro::cost
