// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"
#include "sim/pareto.hpp"

namespace metro::reproduction {
namespace {

constexpr std::int64_t kContext = kDecodeHeavy.prompt + kDecodeHeavy.output / 2;
constexpr std::int64_t kStrictBatch = 64;
constexpr std::int64_t kLastBatch = 1024;

/// A system on one mapping of the model.
struct Mapping {
  System system;
  int tp;  ///< GPUs that share attention
  int ep;  ///< GPUs that the experts are spread over; 1: every expert on all (full TP with tp = G)
  std::vector<std::int64_t> batch;
  std::vector<double> step_us;
};

/// Without whole experts on GPUs there is nothing to place.
std::vector<Mapping> mappings(const Pair& pair) {
  std::vector<Mapping> all;
  for (int tp = 1; tp <= pair.gpus; tp *= 2) {
    all.push_back({kMoeTp, tp, 1, {}, {}});
    for (int ep = 2; ep <= pair.gpus; ep *= 2) {
      for (const System& system : {kEplb, kMetro, kNone, kHomed}) {
        all.push_back({system, tp, ep, {}, {}});
      }
    }
  }
  return all;
}

void run(Runner& runner, const Pair& pair, double replication, Mapping& mapping) {
  SimulationConfig config = runner.config(pair, mapping.system, replication);
  config.deployment.tp = mapping.tp;
  config.deployment.ep = mapping.ep;
  DecodeModel model = runner.decode(config);
  const std::int64_t last = std::min(kLastBatch, model.largest_batch(kContext));
  for (std::int64_t batch = 16; batch <= last; batch *= 2) {
    mapping.batch.push_back(batch);
    mapping.step_us.push_back(model.at(batch, kContext).total_us());
  }
}

std::string label(const Mapping& mapping) {
  return fmt::format("{}, tp {}, ep {}", mapping.system.name, mapping.tp, mapping.ep);
}

/// The least step of a batch among mappings that `take`; its mapping, and its time.
template <typename Take>
std::pair<const Mapping*, double> fastest(const std::vector<Mapping>& all, std::int64_t batch,
                                          const Take& take) {
  std::pair<const Mapping*, double> best{nullptr, 0};
  for (const Mapping& mapping : all) {
    if (!take(mapping)) continue;
    for (std::size_t i = 0; i < mapping.batch.size(); ++i) {
      if (mapping.batch[i] != batch) continue;
      if (best.first == nullptr || mapping.step_us[i] < best.second) {
        best = {&mapping, mapping.step_us[i]};
      }
    }
  }
  return best;
}

/// All points, a series a system, and the frontier of all as a series of its own.
Plot pareto_plot(const Pair& pair, const std::vector<Mapping>& all) {
  Plot plot{pair_name(pair),           "points", "output tokens/s of a request",
            "output tokens/s per GPU", {},       {}};
  std::vector<ServingTradeOff> points;
  std::vector<std::pair<double, double>> drawn;
  for (const Mapping& mapping : all) {
    const std::string name(mapping.system.name);
    auto series = std::ranges::find(plot.series, name, &PlotSeries::name);
    if (series == plot.series.end()) {
      plot.series.push_back({name, {}, {}});
      series = plot.series.end() - 1;
    }
    for (std::size_t i = 0; i < mapping.batch.size(); ++i) {
      const double per_request = 1e6 / mapping.step_us[i];
      const double per_gpu = per_request * static_cast<double>(mapping.batch[i]) / pair.gpus;
      series->x.push_back(per_request);
      series->y.push_back(per_gpu);
      points.push_back({mapping.step_us[i], per_gpu});
      drawn.emplace_back(per_request, per_gpu);
    }
  }
  const std::vector<bool> best = pareto_frontier(points);
  std::vector<std::pair<double, double>> frontier;
  for (std::size_t i = 0; i < drawn.size(); ++i) {
    if (best[i]) frontier.push_back(drawn[i]);
  }
  std::ranges::sort(frontier);
  PlotSeries line{"frontier", {}, {}};
  for (const auto& [x, y] : frontier) {
    line.x.push_back(x);
    line.y.push_back(y);
  }
  plot.series.push_back(std::move(line));
  return plot;
}

}  // namespace

ReproducedFigure make_mapping_figure(Runner& runner) {
  const double replication = runner.most_replication();
  ReproducedFigure figure{"13", "Mappings: TP x EP, and who is on the Pareto frontier", "", {}, {},
                          {}};
  figure.note = fmt::format(
      "Decode steps of 16 to {} requests, contexts of {} tokens, {} where there are replicas; tp = "
      "GPUs that share attention, ep = GPUs that the experts are spread over, 1 = each expert on "
      "all "
      "(moe-TP). Pipeline parallelism is not modelled.",
      kLastBatch, kContext, times_text(replication));
  for (const Pair& pair : pairs().subspan(1)) {
    std::vector<Mapping> all = mappings(pair);
    runner.for_each(all.size(), [&](std::size_t i) { run(runner, pair, replication, all[i]); });
    const auto is_full_tp = [&](const Mapping& m) { return m.tp == pair.gpus && m.ep == 1; };
    const auto uses = [](const System& system) {
      return [key = system.key](const Mapping& m) { return m.system.key == key; };
    };
    for (const std::int64_t batch : {std::int64_t{16}, kStrictBatch}) {
      const double full_tp = fastest(all, batch, is_full_tp).second;
      const auto [metro, metro_us] = fastest(all, batch, uses(kMetro));
      ReproducedRow row{fmt::format("{}, batch {}, METRO at tp {} ep {}", pair_name(pair), batch,
                                    metro->tp, metro->ep),
                        "decode step, full TP over METRO's best mapping",
                        "x",
                        "below 1",
                        full_tp / metro_us,
                        {}};
      for (const System& rival : {kEplb, kNone, kHomed, kMoeTp}) {
        row.beside.emplace_back(rival.key, fastest(all, batch, uses(rival)).second / metro_us);
      }
      figure.rows.push_back(std::move(row));
    }
    const auto any = [](const Mapping&) { return true; };
    for (const std::int64_t batch : {kStrictBatch, kLastBatch}) {
      const Mapping* best = fastest(all, batch, any).first;
      figure.note +=
          fmt::format(" Fastest at batch {} on {}: {}.", batch, pair_name(pair), label(*best));
    }
    figure.plots.push_back(pareto_plot(pair, all));
  }
  return figure;
}

}  // namespace metro::reproduction
