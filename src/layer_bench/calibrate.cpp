// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/calibrate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/rng.hpp"
#include "metro/error.hpp"

namespace metro::layer_bench {
namespace {

using Point = Calibration::ExpertPoint;

/// Of a shape's points, fewer than so many say too little to be kept.
constexpr double kLeastShare = 0.34;

std::vector<Point> random_order(std::vector<Point> points, std::uint64_t seed) {
  Rng rng(seed);
  rng.shuffle(points);
  return points;
}

/// One shape, or the reason why not.
std::optional<std::string> time_shape(const ExpertShape& shape, const CalibrateOptions& options,
                                      const RunClock& clock, const MakeExpertTimer& make,
                                      Calibration& calibration) {
  const std::vector<Point> grid = calibration_points(options.quick);
  int most = 0;
  for (const Point& point : grid) most = std::max(most, point.activated);
  const std::unique_ptr<ExpertTimer> timer = make(shape, most);
  std::vector<Point> fitting;
  std::ranges::copy_if(grid, std::back_inserter(fitting), [&](const Point& point) {
    return point.activated <= timer->max_activated();
  });
  if (fitting.empty()) return "memory has no room for an expert";

  std::vector<Point> timed;
  for (Point point : random_order(fitting, options.seed)) {
    if (!clock.has_room_for(0)) break;
    point.us = rounded_us(timer->time_us(point.tokens_per_expert()));
    if (point.us > 0) timed.push_back(point);
  }
  if (static_cast<double>(timed.size()) < kLeastShare * static_cast<double>(fitting.size())) {
    return fmt::format("the budget ended after {} of {} points", timed.size(), fitting.size());
  }
  // Back in the order of the grid.
  const auto place = [&](const Point& timed_point) {
    return std::ranges::find_if(grid, [&](const Point& point) {
      return point.activated == timed_point.activated && point.tokens == timed_point.tokens &&
             point.skew == timed_point.skew;
    });
  };
  std::ranges::sort(timed, {}, place);
  Calibration::ExpertTime expert;
  expert.hidden = shape.hidden;
  expert.intermediate = shape.intermediate;
  expert.weights = shape.weights;
  expert.points = std::move(timed);
  calibration.experts.push_back(std::move(expert));
  return std::nullopt;
}

}  // namespace

double rounded_us(double us) { return std::round(us * 1e3) / 1e3; }

std::vector<Point> calibration_points(bool quick) {
  const std::vector<int> activated =
      quick ? std::vector{1, 2, 4, 8} : std::vector{1, 2, 4, 8, 16, 24, 32, 48, 64};
  const std::vector<int> tokens =
      quick ? std::vector{1, 8, 64} : std::vector{1, 2, 4, 8, 16, 32, 64, 128, 256};
  const std::vector<int> with_hot = quick ? std::vector{8} : std::vector{8, 16, 32};
  const std::vector<int> beside_hot = quick ? std::vector{1} : std::vector{1, 4, 16};
  const std::vector<int> hot = quick ? std::vector{64} : std::vector{64, 256, 1024};
  std::vector<Point> points;
  for (const int experts : activated) {
    for (const int count : tokens) points.push_back({experts, count, 1, 0});
  }
  for (const int experts : with_hot) {
    for (const int count : beside_hot) {
      for (const int most : hot) points.push_back({experts, count, most / count, 0});
    }
  }
  return points;
}

void time_experts(const CalibrateOptions& options, const RunClock& clock,
                  const MakeExpertTimer& make, CalibrationRun& run) {
  double longest_s = 0;
  for (std::size_t i = 0; i < options.shapes.size(); ++i) {
    const ExpertShape& shape = options.shapes[i];
    const std::string name = fmt::format("{} ({} x {}) {}", shape.model, shape.hidden,
                                         shape.intermediate, data_type_name(shape.weights));
    const double begun_s = clock.used_s();
    if (options.progress) {
      options.progress(fmt::format("{:.0f} s: experts {} of {}, {}", begun_s, i + 1,
                                   options.shapes.size(), name));
    }
    std::optional<std::string> fault;
    if (!clock.has_room_for(longest_s)) {
      fault = fmt::format("no time left of {:g} s", options.budget_s);
    } else {
      try {
        fault = time_shape(shape, options, clock, make, run.calibration);
      } catch (const Error& error) {
        fault = error.what();
      }
    }
    if (fault) run.left_out.push_back(fmt::format("{}: {}", name, *fault));
    longest_s = std::max(longest_s, clock.used_s() - begun_s);
  }
}

}  // namespace metro::layer_bench
