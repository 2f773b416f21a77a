// SPDX-License-Identifier: Apache-2.0
#include "cost/calibration_fit.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>
#include <vector>

#include "cost/nonnegative_fit.hpp"
#include "metro/error.hpp"

namespace metro::cost {
namespace {

constexpr double kLeastUs = 1e-4;  // a time must be above 0
constexpr double kMostGbS = 1e6;   // where bytes cost nothing

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

double phi_us(const Calibration::ExpertTime& expert, double tokens) {
  const auto& points = expert.phi_us;
  if (points.size() == 1 || tokens <= static_cast<double>(points.front().first)) {
    return points.front().second;
  }
  auto above = std::ranges::find_if(
      points, [&](const auto& point) { return static_cast<double>(point.first) >= tokens; });
  if (above == points.end()) above = std::prev(points.end());
  const auto& [x1, y1] = *above;
  const auto& [x0, y0] = *std::prev(above);
  return y0 + (y1 - y0) * (tokens - static_cast<double>(x0)) / static_cast<double>(x1 - x0);
}

double predict_us(const Calibration::ExpertTime& expert, std::span<const std::int32_t> tokens) {
  double us = expert.base_us;
  for (const std::int32_t count : tokens) {
    if (count > 0) us += phi_us(expert, count);
  }
  return us;
}

void fit_expert_time(Calibration::ExpertTime& expert) {
  if (expert.points.empty()) {
    throw Error(ErrorCode::kInput, "no points to fit, measure at least one");
  }
  std::set<std::int32_t> distinct;
  for (const auto& point : expert.points) {
    for (const std::int32_t count : point.tokens_per_expert()) distinct.insert(count);
  }
  const std::vector<std::int32_t> levels(distinct.begin(), distinct.end());
  // t = base + sum of steps, where a step of phi counts for every expert at or beyond its level.
  // Each row is divided by its time, so that errors are relative.
  const std::size_t rows = expert.points.size();
  std::vector<std::vector<double>> columns(levels.size() + 1, std::vector<double>(rows, 0.0));
  for (std::size_t row = 0; row < rows; ++row) {
    const Calibration::ExpertPoint& point = expert.points[row];
    const std::vector<std::int32_t> counts = point.tokens_per_expert();
    columns[0][row] = 1 / point.us;
    for (std::size_t k = 0; k < levels.size(); ++k) {
      const auto reached = std::ranges::count_if(counts, [&](int n) { return n >= levels[k]; });
      columns[k + 1][row] = static_cast<double>(reached) / point.us;
    }
  }
  const std::vector<double> x = fit_nonnegative(columns, std::vector<double>(rows, 1.0));
  expert.base_us = rounded(x[0]);
  expert.phi_us.clear();
  double phi = 0;
  for (std::size_t k = 0; k < levels.size(); ++k) {
    phi += x[k + 1];
    expert.phi_us.emplace_back(levels[k], std::max(rounded(phi), kLeastUs));
  }
  std::vector<double> errors;
  for (const Calibration::ExpertPoint& point : expert.points) {
    errors.push_back(std::abs(predict_us(expert, point.tokens_per_expert()) / point.us - 1));
  }
  expert.median_error = rounded(median(std::move(errors)));
}

void fit_collective(Calibration::Collective& collective) {
  if (collective.points.empty()) {
    throw Error(ErrorCode::kInput, "no points to fit, measure at least one");
  }
  const std::size_t rows = collective.points.size();
  std::vector<std::vector<double>> columns(2, std::vector<double>(rows));
  for (std::size_t row = 0; row < rows; ++row) {
    const auto& [bytes, us] = collective.points[row];
    columns[0][row] = 1 / us;
    columns[1][row] = static_cast<double>(bytes) * 1e-3 / us;  // KB over us is GB/s
  }
  const std::vector<double> x = fit_nonnegative(columns, std::vector<double>(rows, 1.0));
  collective.alpha_us = rounded(x[0]);
  collective.beta_gb_s = x[1] > 1 / kMostGbS ? rounded(1 / x[1]) : kMostGbS;
  std::vector<double> errors;
  for (const auto& [bytes, us] : collective.points) {
    const double fit =
        collective.alpha_us + static_cast<double>(bytes) * 1e-3 / collective.beta_gb_s;
    errors.push_back(std::abs(fit / us - 1));
  }
  collective.median_error = rounded(median(std::move(errors)));
}

}  // namespace metro::cost
