// SPDX-License-Identifier: Apache-2.0
#include "trace/layer_stats.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

namespace metro {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double sum(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

double max_over_mean(std::span<const double> load) {
  const double total = sum(load);
  if (total <= 0) return kNan;
  return *std::ranges::max_element(load) * static_cast<double>(load.size()) / total;
}

double gini(std::span<const double> load) {
  const double total = sum(load);
  if (total <= 0) return kNan;
  std::vector<double> sorted(load.begin(), load.end());
  std::ranges::sort(sorted);
  const auto n = static_cast<double>(sorted.size());
  double weighted = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    weighted += (2 * static_cast<double>(i) + 1 - n) * sorted[i];
  }
  return weighted / (n * total);
}

double hottest_share(std::span<const double> load, std::size_t count) {
  const double total = sum(load);
  if (total <= 0) return kNan;
  std::vector<double> sorted(load.begin(), load.end());
  std::ranges::sort(sorted, std::greater{});
  return sum(std::span<const double>(sorted).first(std::min(count, sorted.size()))) / total;
}

double coactivation_lift_p99(std::span<const std::int32_t> ids, int topk, int num_experts,
                             double min_expected) {
  const auto width = static_cast<std::size_t>(topk);
  const auto experts = static_cast<std::size_t>(num_experts);
  const std::size_t num_tokens = ids.size() / width;
  std::vector<std::uint32_t> together(experts * experts, 0);  // [a][b], a < b
  std::vector<double> alone(experts, 0);
  std::vector<std::size_t> chosen;
  for (std::size_t at = 0; at + width <= ids.size(); at += width) {
    chosen.clear();
    for (const std::int32_t id : ids.subspan(at, width)) {
      if (id >= 0) chosen.push_back(static_cast<std::size_t>(id));
    }
    std::ranges::sort(chosen);
    chosen.erase(std::ranges::unique(chosen).begin(), chosen.end());
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      alone[chosen[i]] += 1;
      for (std::size_t j = i + 1; j < chosen.size(); ++j)
        ++together[chosen[i] * experts + chosen[j]];
    }
  }
  std::vector<double> lifts;
  for (std::size_t a = 0; a < experts; ++a) {
    for (std::size_t b = a + 1; b < experts; ++b) {
      const double expected = alone[a] * alone[b] / static_cast<double>(num_tokens);
      if (expected >= min_expected) lifts.push_back(together[a * experts + b] / expected);
    }
  }
  if (lifts.empty()) return kNan;
  const auto at =
      lifts.begin() + static_cast<std::ptrdiff_t>(0.99 * static_cast<double>(lifts.size() - 1));
  std::ranges::nth_element(lifts, at);
  return *at;
}

}  // namespace metro
