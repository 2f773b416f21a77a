// SPDX-License-Identifier: Apache-2.0
// The fit of base and phi: it finds what made the points, and nothing fits them better.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/rng.hpp"
#include "cost/calibration_fit.hpp"
#include "cost/nonnegative_fit.hpp"
#include "layer_bench/calibrate.hpp"
#include "metro/error.hpp"

namespace metro::cost {
namespace {

using Columns = std::vector<std::vector<double>>;

double squared_error(const Columns& a, const std::vector<double>& x, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    double row = -b[i];
    for (std::size_t j = 0; j < a.size(); ++j) row += a[j][i] * x[j];
    sum += row * row;
  }
  return sum;
}

/// Solves the normal equations of some columns by Cramer-free elimination with full pivoting.
std::vector<double> solve_normal(const Columns& a, const std::vector<double>& b) {
  const std::size_t n = a.size();
  std::vector<std::vector<double>> m(n, std::vector<double>(n + 1, 0.0));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t r = 0; r < b.size(); ++r) {
      for (std::size_t j = 0; j < n; ++j) m[i][j] += a[i][r] * a[j][r];
      m[i][n] += a[i][r] * b[r];
    }
  }
  std::vector<double> x(n, 0.0);
  for (std::size_t k = 0; k < n; ++k) {
    std::size_t pivot = k;
    for (std::size_t i = k; i < n; ++i) {
      if (std::abs(m[i][k]) > std::abs(m[pivot][k])) pivot = i;
    }
    std::swap(m[k], m[pivot]);
    if (std::abs(m[k][k]) < 1e-12) return {};  // columns that say the same
    for (std::size_t i = k + 1; i < n; ++i) {
      const double factor = m[i][k] / m[k][k];
      for (std::size_t j = k; j <= n; ++j) m[i][j] -= factor * m[k][j];
    }
  }
  for (std::size_t k = n; k-- > 0;) {
    x[k] = m[k][n];
    for (std::size_t j = k + 1; j < n; ++j) x[k] -= m[k][j] * x[j];
    x[k] /= m[k][k];
  }
  return x;
}

/// The least squared error over every choice of columns that may be positive.
double best_of_all_subsets(const Columns& a, const std::vector<double>& b) {
  double best = squared_error(a, std::vector<double>(a.size(), 0.0), b);
  for (unsigned subset = 1; subset < 1U << a.size(); ++subset) {
    Columns chosen;
    for (std::size_t j = 0; j < a.size(); ++j) {
      if ((subset >> j & 1U) != 0) chosen.push_back(a[j]);
    }
    const std::vector<double> x = solve_normal(chosen, b);
    if (x.empty() || std::ranges::any_of(x, [](double value) { return value < 0; })) continue;
    best = std::min(best, squared_error(chosen, x, b));
  }
  return best;
}

RC_GTEST_PROP(NonnegativeFit, IsAsGoodAsTheBestOfAllSubsets, ()) {
  const auto columns = *rc::gen::inRange<std::size_t>(1, 6);
  const auto rows = *rc::gen::inRange<std::size_t>(1, 9);
  const auto number = [] { return *rc::gen::inRange(-9, 10) / 3.0; };
  Columns a(columns, std::vector<double>(rows));
  for (auto& column : a) {
    for (double& value : column) value = number();
  }
  std::vector<double> b(rows);
  for (double& value : b) value = number();
  const std::vector<double> x = fit_nonnegative(a, b);
  RC_ASSERT(x.size() == columns);
  for (const double value : x) RC_ASSERT(value >= 0);
  RC_ASSERT(squared_error(a, x, b) <= best_of_all_subsets(a, b) + 1e-9);
}

/// The points of a run, timed by a phi that is known: a step a tile of 64 tokens.
Calibration::ExpertTime known_points(double base, double first, double tile, double row) {
  Calibration::ExpertTime expert;
  expert.hidden = expert.intermediate = 16;
  expert.base_us = base;
  expert.points = layer_bench::calibration_points(false);
  const auto phi = [&](std::int32_t n) { return first + tile * ((n + 63) / 64 - 1) + row * n; };
  for (Calibration::ExpertPoint& point : expert.points) {
    point.us = base;
    for (const std::int32_t tokens : point.tokens_per_expert()) point.us += phi(tokens);
  }
  return expert;
}

RC_GTEST_PROP(ExpertFit, FindsTheBaseAndPhiThatMadeThePoints, ()) {
  const double base = *rc::gen::inRange(0, 400) / 10.0;
  const double first = *rc::gen::inRange(10, 400) / 10.0;
  const double tile = *rc::gen::inRange(0, 200) / 10.0;
  const double row = *rc::gen::inRange(0, 100) / 1000.0;
  Calibration::ExpertTime expert = known_points(base, first, tile, row);
  fit_expert_time(expert);
  RC_ASSERT(std::abs(expert.base_us - base) < 1e-3);
  for (const auto& [tokens, us] : expert.phi_us) {
    const double phi = first + tile * static_cast<double>((tokens + 63) / 64 - 1) +
                       row * static_cast<double>(tokens);
    RC_ASSERT(std::abs(us - phi) < 1e-3);
  }
  RC_ASSERT(expert.median_error < 1e-3);
}

RC_GTEST_PROP(ExpertFit, OfNoisyPointsIsMonotoneAndNear, (std::uint64_t seed)) {
  Calibration::ExpertTime expert = known_points(20, 14, 7, 0.01);
  const Calibration::ExpertTime exact = expert;
  Rng rng(seed);
  for (auto& point : expert.points) point.us *= 1 + 0.1 * (rng.uniform() - 0.5);
  fit_expert_time(expert);
  double before = 0;
  for (const auto& [tokens, us] : expert.phi_us) {
    RC_ASSERT(us >= before);
    before = us;
  }
  RC_ASSERT(expert.base_us >= 0);
  RC_ASSERT(expert.median_error < 0.05);  // no more than the noise itself
  std::vector<double> errors;
  for (const auto& point : exact.points) {
    errors.push_back(std::abs(predict_us(expert, point.tokens_per_expert()) / point.us - 1));
  }
  std::ranges::sort(errors);
  RC_ASSERT(errors[errors.size() / 2] < 0.03);  // nearer to the truth than the points are
  RC_ASSERT(errors.back() < 0.15);
}

TEST(ExpertFit, TinyCasesHaveClosedForms) {
  Calibration::ExpertTime one;
  one.points = {{1, 1, 1, 7.0}};
  fit_expert_time(one);  // base and phi say the same: their sum is what counts
  const std::int32_t token = 1;
  EXPECT_NEAR(predict_us(one, std::span(&token, 1)), 7, 1e-3);

  Calibration::ExpertTime two;
  two.points = {{1, 1, 1, 7.0}, {2, 1, 1, 10.0}};
  fit_expert_time(two);
  EXPECT_NEAR(two.base_us, 4, 1e-3);
  EXPECT_NEAR(two.phi_us[0].second, 3, 1e-3);

  Calibration::ExpertTime
      falling;  // more tokens in less time: phi stays level, errors are relative
  falling.points = {{1, 1, 1, 10.0}, {1, 8, 1, 5.0}};
  fit_expert_time(falling);
  EXPECT_EQ(falling.phi_us[0].second, falling.phi_us[1].second);
  // Least squares of (t / 10 - 1) and (t / 5 - 1): t = (1/10 + 1/5) / (1/100 + 1/25).
  EXPECT_NEAR(predict_us(falling, std::span(&token, 1)), 6, 1e-3);
  EXPECT_THROW(
      {
        Calibration::ExpertTime none;
        fit_expert_time(none);
      },
      Error);
}

TEST(CollectiveFit, IsALineThroughItsPoints) {
  Calibration::Collective line{.name = "all-gather", .gpus = 8};
  for (std::int64_t bytes = 1024; bytes <= 1 << 26; bytes *= 4) {
    line.points.emplace_back(bytes, 7.5 + static_cast<double>(bytes) * 1e-3 / 320);
  }
  fit_collective(line);
  EXPECT_NEAR(line.alpha_us, 7.5, 1e-3);
  EXPECT_NEAR(line.beta_gb_s, 320, 0.01);
  EXPECT_LT(line.median_error, 1e-3);

  line.points = {{1024, 5.0}, {4096, 5.0}};  // bytes cost nothing
  fit_collective(line);
  EXPECT_NEAR(line.alpha_us, 5, 1e-3);
  EXPECT_GT(line.beta_gb_s, 1e5);
}

}  // namespace
}  // namespace metro::cost
