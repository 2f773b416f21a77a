// SPDX-License-Identifier: Apache-2.0
#include "metro/reproduce.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "metro/error.hpp"
#include "reproduce/figures.hpp"

namespace metro {
namespace {

using reproduction::Runner;

struct Maker {
  int figure;
  ReproducedFigure (*make)(Runner&);
};

constexpr std::array kMakers = {
    Maker{5, reproduction::make_eplb_figure},       Maker{6, reproduction::make_router_cost_figure},
    Maker{8, reproduction::make_activated_figure},  Maker{9, reproduction::make_real_system_figure},
    Maker{10, reproduction::make_simulated_figure}, Maker{11, reproduction::make_breakdown_figure},
    Maker{12, reproduction::make_slo_figure},       Maker{13, reproduction::make_mapping_figure},
};

constexpr std::array kFigures = [] {
  std::array<int, kMakers.size()> ids{};
  std::ranges::transform(kMakers, ids.begin(), &Maker::figure);
  return ids;
}();

}  // namespace

std::span<const int> reproduced_figures() noexcept { return kFigures; }

void reproduce_check(const ReproduceSpec& spec) {
  for (std::size_t i = 0; i < spec.figures.size(); ++i) {
    if (std::ranges::find(kFigures, spec.figures[i]) != kFigures.end()) continue;
    throw Error(ErrorCode::kUsage, fmt::format("figures[{}] is {}, must be of {}", i,
                                               spec.figures[i], fmt::join(kFigures, ", ")));
  }
}

Reproduction reproduce(const ReproduceSpec& spec,
                       const std::function<void(std::size_t, std::size_t)>& progress) {
  reproduce_check(spec);
  const auto is_asked = [&spec](int figure) {
    return spec.figures.empty() || std::ranges::find(spec.figures, figure) != spec.figures.end();
  };
  Runner runner(spec);
  Reproduction result;
  for (const reproduction::Pair& pair : reproduction::pairs()) {
    result.pairs.push_back({reproduction::pair_name(pair), runner.routing_name(pair)});
  }
  std::size_t done = 0;
  for (const Maker& maker : kMakers) {
    if (progress) progress(done++, kMakers.size());
    if (is_asked(maker.figure)) result.figures.push_back(maker.make(runner));
  }
  if (is_asked(9) && is_asked(10)) result.figures.push_back(reproduction::make_overall(runner));
  if (progress) progress(done, kMakers.size());
  return result;
}

}  // namespace metro
