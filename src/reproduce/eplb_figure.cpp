// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr int kPromptTokens = 512;

/// What EPLB and its rivals do at one batch size.
struct Point {
  std::vector<double> prefill_s;
  std::vector<double> activated;
  std::vector<double> step_us;
  std::vector<double> tpot_ms;
  std::vector<double> tokens_per_s;
};

}  // namespace

ReproducedFigure make_eplb_figure(Runner& runner) {
  const Pair& pair = pairs().front();
  const double replication = runner.most_replication();
  const std::vector<int> sizes = runner.quick() ? std::vector{8, 32} : std::vector{4, 8, 16, 32};
  const std::size_t num_systems = systems().size();
  std::vector<Point> points(sizes.size());
  for (Point& point : points) {
    for (auto* values : {&point.prefill_s, &point.activated, &point.step_us, &point.tpot_ms,
                         &point.tokens_per_s}) {
      values->resize(num_systems);
    }
  }
  runner.for_each(sizes.size() * num_systems, [&](std::size_t i) {
    const int size = sizes[i / num_systems];
    const std::size_t s = i % num_systems;
    const System& system = systems()[s];
    Point& point = points[i / num_systems];
    point.prefill_s[s] = runner.prefill_s(pair, system, replication, size, kPromptTokens);
    const DecodeStep step =
        runner.decode(pair, system, replication)
            .at(std::int64_t{size} * pair.gpus, kDecodeHeavy.prompt + kDecodeHeavy.output / 2);
    point.activated[s] = step.max_activated;
    point.step_us[s] = step.total_us();
    const auto served = runner.serve(pair, system, replication, kDecodeHeavy, size * pair.gpus);
    point.tpot_ms[s] = served->tpot_ms.mean;
    point.tokens_per_s[s] = served->total_tokens_per_s;
  });

  ReproducedFigure figure{"5", "What EPLB's replicas do to Qwen3-30B without METRO", "", {}, {},
                          {}};
  figure.note = fmt::format(
      "EPLB's placement and even split at {} against EPLB off. Prefill: one step with that many "
      "prompts of {} tokens on every GPU. Decode: steps without prompts, and the {} workload "
      "served.",
      times_text(replication), kPromptTokens, kDecodeHeavy.name);
  const std::string where = fmt::format("{}, {} requests per GPU", pair_name(pair), sizes.back());
  const auto add = [&](const char* quantity, const char* paper, std::vector<double> values) {
    figure.rows.push_back(change_row(
        where, fmt::format("{}, EPLB at {} over EPLB off", quantity, times_text(replication)),
        paper, SystemValues(std::move(values)), kEplb, kNone));
  };
  add("prefill latency", "-17", points.back().prefill_s);
  add("max activated experts in decode", "+30", points.back().activated);
  add("decode step", "+14 (TPOT)", points.back().step_us);
  add("TPOT served", "+14", points.back().tpot_ms);
  add("total throughput served", "-10", points.back().tokens_per_s);

  Plot plot{"EPLB with replicas over EPLB off", "bars", "requests per GPU", "change, %", {}, {}};
  for (const int size : sizes) plot.categories.push_back(fmt::format("{}", size));
  const auto draw = [&](const char* name, auto member) {
    PlotSeries& series = plot.series.emplace_back(PlotSeries{name, {}, {}});
    for (const Point& point : points) {
      series.y.push_back(SystemValues(point.*member).change_of(kEplb, kNone));
    }
  };
  draw("prefill latency", &Point::prefill_s);
  draw("max activated", &Point::activated);
  draw("TPOT", &Point::tpot_ms);
  draw("total throughput", &Point::tokens_per_s);
  figure.plots.push_back(std::move(plot));
  return figure;
}

}  // namespace metro::reproduction
