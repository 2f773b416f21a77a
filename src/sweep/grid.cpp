// SPDX-License-Identifier: Apache-2.0
#include "sweep/grid.hpp"

#include <fmt/format.h>

#include <utility>

#include "metro/error.hpp"
#include "metro/io.hpp"

namespace metro::sweeping {
namespace {

constexpr std::size_t kMaxPoints = 1'000'000;

std::size_t count_points(const std::vector<SweepAxis>& axes) {
  std::size_t points = 1;
  for (const SweepAxis& axis : axes) {
    points *= axis.values.size();
    if (points > kMaxPoints) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("the grid has over {} points, must be fewer", kMaxPoints));
    }
  }
  return points;
}

std::vector<std::string> values_at(const std::vector<SweepAxis>& axes, std::size_t index) {
  std::vector<std::string> values(axes.size());
  for (std::size_t i = axes.size(); i-- > 0;) {
    values[i] = axes[i].values[index % axes[i].values.size()];
    index /= axes[i].values.size();
  }
  return values;
}

}  // namespace

std::vector<Point> make_points(const SweepSpec& spec, serving::Files& files) {
  const serving::Spelling spelling = spec.spelling != nullptr ? spec.spelling : serving::as_field;
  std::vector<Point> points;
  const std::size_t count = count_points(spec.axes);
  for (std::size_t i = 0; i < count; ++i) {
    Point& point =
        points.emplace_back(Point{values_at(spec.axes, i), serving::Arguments(spelling), {}});
    for (std::size_t a = 0; a < spec.axes.size(); ++a) {
      point.arguments.set(spec.axes[a].option, point.values[a]);
    }
    point.arguments.check();
  }
  // Files are opened once no option is at fault, and all of them before threads ask for them.
  for (const Point& point : points) {
    try {
      point.arguments.config(files, spec.seed).validate();
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInfeasible) throw;  // which is a row of its own
    }
  }
  std::string hashes;
  for (const auto& path : files.inputs()) hashes += fmt::format(" {}", io::sha256_file(path));
  for (Point& point : points) {
    point.key = fmt::format("{}seed {}{}", METRO_VERSION " ", spec.seed, hashes);
    for (std::size_t a = 0; a < spec.axes.size(); ++a) {
      // As the program spells options: journals hold these keys.
      point.key += fmt::format(" {}{} {}", "--", spec.axes[a].option, point.values[a]);
    }
  }
  return points;
}

}  // namespace metro::sweeping
