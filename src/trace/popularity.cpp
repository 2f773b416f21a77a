// SPDX-License-Identifier: Apache-2.0
#include "trace/popularity.hpp"

#include <algorithm>

#include "trace/portable_math.hpp"

namespace metro {
namespace {

constexpr double kLowest = -40;  // of log weight
constexpr double kStep = 0.0625;
constexpr int kPoints = 1281;       // up to log weight 40
constexpr double kCertain = 0.995;  // nothing is always chosen: its weight would be infinite

}  // namespace

PopularityCurve::PopularityCurve(double tilt_spread) {
  std::vector<double> tilts;
  std::vector<double> densities;
  double total = 0;
  for (int i = -24; i <= 24; ++i) {
    const double z = i / 4.0;
    tilts.push_back(portable_exp(tilt_spread * z));
    densities.push_back(portable_exp(-z * z / 2));
    total += densities.back();
  }
  for (int point = 0; point < kPoints; ++point) {
    const double weight = portable_exp(kLowest + kStep * point);
    double missed = 0;
    for (std::size_t i = 0; i < tilts.size(); ++i) {
      missed += densities[i] * portable_exp(-std::min(weight * tilts[i], 600.0));
    }
    inclusion_.push_back(1 - missed / total);
  }
}

double PopularityCurve::weight_of(double inclusion) const {
  const auto above = std::ranges::lower_bound(inclusion_, inclusion);
  if (above == inclusion_.begin()) return portable_exp(kLowest);
  if (above == inclusion_.end()) return portable_exp(-kLowest);
  const auto index = static_cast<double>(above - inclusion_.begin());
  const double below = *(above - 1);
  const double part = (inclusion - below) / (*above - below);
  return portable_exp(kLowest + kStep * (index - 1 + part));
}

std::vector<double> PopularityCurve::weights(std::span<const double> loads, int topk) const {
  double total = 0;
  for (const double load : loads) total += load;
  const double fair = topk / total;
  const auto included = [&](double scale) {
    double sum = 0;
    for (const double load : loads) sum += std::min(kCertain, scale * load);
    return sum;
  };
  // What the hottest experts cannot take goes to the others: find the scale that gives topk in all.
  double low = fair;
  double high = fair;
  for (int i = 0; i < 60 && included(high) < topk; ++i) high *= 2;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (included(middle) < topk ? low : high) = middle;
  }
  std::vector<double> weights;
  weights.reserve(loads.size());
  for (const double load : loads) weights.push_back(weight_of(std::min(kCertain, high * load)));
  return weights;
}

}  // namespace metro
