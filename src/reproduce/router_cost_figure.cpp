// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr std::int64_t kContext = kDecodeHeavy.prompt + kDecodeHeavy.output / 2;

}  // namespace

ReproducedFigure make_router_cost_figure(Runner& runner) {
  const double replication = runner.most_replication();
  ReproducedFigure figure{
      "6", "What choosing replicas costs, over the experts it chooses for", "", {}, {}, {}};
  figure.note =
      "Routing time of a decode step over the time of its experts under the same policy. The "
      "routers' times are those measured on an H100 (docs/results.md); the paper timed "
      "textbook max-flow, on the host and on the GPU.";
  const std::vector<System> shown = {kMetro, kOptimal, kHomed};
  Plot plot{"Routing over the experts of a layer", "bars", "", "%", {}, {}};
  for (const System& system : shown) plot.series.push_back({std::string(system.name), {}, {}});
  for (const Pair& pair : pairs()) {
    std::vector<double> shares(shown.size());
    runner.for_each(shown.size(), [&](std::size_t s) {
      const DecodeStep step = runner.decode(pair, shown[s], replication).at(pair.batch, kContext);
      shares[s] = 100 * step.times[Stage::kRoute] / step.experts_us;
    });
    plot.categories.push_back(pair_name(pair));
    for (std::size_t s = 0; s < shown.size(); ++s) plot.series[s].y.push_back(shares[s]);
    const bool is_papers = pair.model == pairs().front().model;
    ReproducedRow row{pair_name(pair), "exact optimum over the layer's experts",
                      "% of experts",  is_papers ? "31-41 on the host, 86-104 on the GPU" : "",
                      shares[1],       {}};
    row.beside = {{std::string(kMetro.key), shares[0]},
                  {std::string(kHomed.key), shares[2]},
                  {std::string(kNone.key), 0},
                  {std::string(kMoeTp.key), 0}};
    figure.rows.push_back(std::move(row));
  }
  figure.plots.push_back(std::move(plot));
  return figure;
}

}  // namespace metro::reproduction
