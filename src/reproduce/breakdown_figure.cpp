// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr std::int64_t kContext = kDecodeHeavy.prompt + kDecodeHeavy.output / 2;

/// Stages as the plot groups them.
struct Part {
  const char* name;
  std::vector<Stage> stages;
};

const std::vector<Part>& parts() {
  static const std::vector<Part> all = {
      {"attention", {Stage::kAttention, Stage::kAttentionSum}},
      {"gate and top-k", {Stage::kGate}},
      {"routing", {Stage::kRoute, Stage::kExchange}},
      {"dispatch and combine", {Stage::kDispatch, Stage::kCombine, Stage::kPermute}},
      {"experts", {}},
      {"other", {Stage::kDense, Stage::kShared, Stage::kHead, Stage::kOverhead}},
  };
  return all;
}

/// Microseconds a MoE layer.
double part_us(const DecodeStep& step, const Part& part, int num_layers) {
  double us = part.stages.empty() ? step.experts_us : 0;
  for (const Stage stage : part.stages) us += step.times[stage];
  return us / num_layers;
}

}  // namespace

ReproducedFigure make_breakdown_figure(Runner& runner) {
  const double replication = runner.most_replication();
  ReproducedFigure figure{"11", "Where a decode layer's time goes", "", {}, {}, {}};
  figure.note = fmt::format(
      "A decode step at {}, contexts of {} tokens, divided by the MoE layers. The paper does not "
      "say which model its figure is of.",
      times_text(replication), kContext);
  for (const Pair& pair : pairs()) {
    std::vector<DecodeStep> steps(systems().size());
    const int num_layers = find_model(pair.model)->num_moe_layers();
    runner.for_each(steps.size(), [&](std::size_t s) {
      steps[s] = runner.decode(pair, systems()[s], replication).at(pair.batch, kContext);
    });
    Plot plot{pair_name(pair), "stacked", "", "us per layer", {}, {}};
    for (const System& system : systems()) plot.categories.emplace_back(system.name);
    for (const Part& part : parts()) {
      PlotSeries& series = plot.series.emplace_back(PlotSeries{part.name, {}, {}});
      for (const DecodeStep& step : steps) series.y.push_back(part_us(step, part, num_layers));
    }
    const auto add = [&](std::size_t part, const char* quantity, const char* paper) {
      figure.rows.push_back(difference_row(
          fmt::format("{}, batch {}", pair_name(pair), pair.batch),
          fmt::format("{} of a layer, METRO less EPLB at {}", quantity, times_text(replication)),
          "us", paper, SystemValues(plot.series[part].y), kMetro, kEplb));
    };
    add(2, "routing", "+26");
    add(1, "top-k", "+3");
    add(4, "experts", "-81");
    figure.plots.push_back(std::move(plot));
  }
  return figure;
}

}  // namespace metro::reproduction
