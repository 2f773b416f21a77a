// SPDX-License-Identifier: Apache-2.0
#include "metro/expert_cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include "metro/error.hpp"

namespace metro {
namespace {

constexpr std::size_t kMinClosure = 256;
constexpr std::size_t kMaxClosure = 2048;
constexpr std::int64_t kMaxTable = 65'536;

bool is_time(double us) { return us >= 0 && std::isfinite(us); }  // false for NaN too

void check(std::string_view field, double us) {
  if (is_time(us)) return;
  throw Error(ErrorCode::kInput,
              fmt::format("{} is {}, must be a finite number of us, 0 or more", field, us));
}

void check(const ExpertTimes& times) {
  const std::vector<double>& phi = times.phi_us;
  if (phi.empty()) {
    throw Error(ErrorCode::kInput, "phi is empty, must start with phi(0), which is 0");
  }
  if (phi[0] != 0) {  // true for NaN too
    throw Error(ErrorCode::kInput,
                fmt::format("phi[0] is {}, must be 0: no tokens take no time", phi[0]));
  }
  for (std::size_t n = 1; n < phi.size(); ++n) {
    if (!is_time(phi[n])) check(fmt::format("phi[{}]", n), phi[n]);
    if (phi[n] < phi[n - 1]) {
      throw Error(ErrorCode::kInput,
                  fmt::format("phi[{}] is {}, must be at least phi[{}], which is {}", n, phi[n],
                              n - 1, phi[n - 1]));
    }
  }
  check("beyond", times.beyond_us);
  check("base", times.base_us);
}

/// data/calibration/h100.json, 7168x2048 in bf16: (tokens, us). A test compares the two.
constexpr std::pair<std::int64_t, double> kStandard[] = {
    {1, 28.0168},  {2, 28.0168}, {4, 28.2375},   {8, 28.2375},   {16, 28.9962},
    {32, 30.0242}, {64, 31.179}, {128, 34.5302}, {256, 49.9376}, {1024, 171.0527}};
constexpr double kStandardBase = 13.6884;

}  // namespace

ExpertCost::ExpertCost(ExpertTimes times) : times_(std::move(times)) {
  check(times_);
  least_per_token_ = times_.beyond_us;
  least_fixed_ = std::numeric_limits<double>::max();
  const std::size_t size = times_.phi_us.size();
  for (std::size_t n = 1; n <= size; ++n) {  // one past the table stands for all that follow
    const double us = phi(static_cast<std::int64_t>(n));
    least_per_token_ = std::min(least_per_token_, us / static_cast<double>(n));
    least_fixed_ = std::min(least_fixed_, std::fma(-times_.beyond_us, static_cast<double>(n), us));
  }
  closure_.resize(std::clamp(size, kMinClosure, kMaxClosure));
  for (std::size_t n = 1; n < closure_.size(); ++n) {
    double best = phi(static_cast<std::int64_t>(n));
    for (std::size_t part = 1; part <= n / 2; ++part) {
      best = std::min(best, closure_[part] + closure_[n - part]);
    }
    closure_[n] = best;
  }
}

ExpertCost ExpertCost::from_points(std::span<const std::pair<std::int64_t, double>> points,
                                   double base_us) {
  if (points.empty()) throw Error(ErrorCode::kInput, "phi_us is empty, must have a pair");
  ExpertTimes times;
  times.base_us = base_us;
  const std::int64_t end = std::min(points.back().first, kMaxTable);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto [tokens, us] = points[i];
    const auto [before, us_before] = i == 0 ? std::pair(std::int64_t{0}, us) : points[i - 1];
    for (std::int64_t n = before + 1; n <= std::min(tokens, end); ++n) {
      const double fraction =
          static_cast<double>(n - before) / static_cast<double>(tokens - before);
      times.phi_us.push_back(n == tokens ? us : std::fma(us - us_before, fraction, us_before));
    }
    if (i > 0) times.beyond_us = (us - us_before) / static_cast<double>(tokens - before);
  }
  return ExpertCost(std::move(times));
}

std::shared_ptr<const ExpertCost> ExpertCost::standard() {
  static const auto cost =
      std::make_shared<const ExpertCost>(from_points(kStandard, kStandardBase));
  return cost;
}

double ExpertCost::least(std::int64_t tokens) const noexcept {
  const auto size = static_cast<std::int64_t>(closure_.size());
  if (tokens < size) return closure_[static_cast<std::size_t>(tokens)];
  // phi is cut off at the largest double, and a line there would be above it.
  constexpr double kMost = std::numeric_limits<double>::max() / 2;
  const auto count = static_cast<double>(tokens);
  double bound = std::max(closure_.back(), std::min(least_per_token_ * count, kMost));
  // k parts cost at least k of the fixed part; below 0 more parts could cost less.
  if (least_fixed_ >= 0) {
    bound = std::max(bound, std::min(std::fma(times_.beyond_us, count, least_fixed_), kMost));
  }
  return bound;
}

}  // namespace metro
