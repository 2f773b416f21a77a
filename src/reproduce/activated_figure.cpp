// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "metro/compare.hpp"
#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr int kBatches = 32;

/// Max activated by system at one batch size, from the rows of `compare`.
SystemValues values_at(const std::vector<CompareRow>& rows, double replication, int tokens) {
  std::vector<double> values;
  for (const System& system : systems()) {
    const auto row = std::ranges::find_if(rows, [&](const CompareRow& found) {
      return found.tokens == tokens && found.replication == replication &&
             found.algorithm == system.algorithm && found.policy == system.policy;
    });
    values.push_back(system.tensor_sharded ? row->active_experts / row->gpus
                     : system.replicates   ? row->max_activated
                                           : row->no_replication);
  }
  return SystemValues(std::move(values));
}

/// "DeepSeek-V3 on 16 x B200, 1.5x, 32 tokens".
std::string where(const Pair& pair, double replication, int tokens) {
  return fmt::format("{}, {}, {} tokens", pair_name(pair), times_text(replication), tokens);
}

/// The grid's extreme of one system over another, and where it lies.
struct Extreme {
  ReproducedRow row;
  bool found = false;

  void offer(const ReproducedRow& other, bool want_more) {
    if (found && (want_more ? other.ours <= row.ours : other.ours >= row.ours)) return;
    row = other;
    found = true;
  }
};

}  // namespace

ReproducedFigure make_activated_figure(Runner& runner) {
  ReproducedFigure figure{"8", "Activated experts on the busiest GPU", "", {}, {}, {}};
  figure.note = fmt::format(
      "Replayed routing, means over layers and {} batches; batches of 32 tokens in all, and of 32 "
      "on "
      "every GPU, at every replication. The heat maps are at {}.",
      kBatches, times_text(runner.most_replication()));
  Extreme over_optimal;
  Extreme under_even;
  for (const Pair& pair : pairs()) {
    const auto trace = runner.routing(pair);
    CompareSpec spec;
    spec.algorithms = {std::string(kEplbAlgorithm), std::string(kHomedAlgorithm)};
    spec.gpus = {pair.gpus};
    spec.replication = runner.replications();
    spec.tokens = {32, 32 * pair.gpus};
    for (const System& system : systems()) {
      if (std::ranges::find(spec.policies, system.policy) == spec.policies.end()) {
        spec.policies.emplace_back(system.policy);
      }
    }
    spec.batches = kBatches;
    spec.seed = runner.seed();
    spec.num_threads = runner.num_threads();
    const std::vector<CompareRow> rows = compare(*trace, spec);
    for (const int tokens : spec.tokens) {
      Plot plot{fmt::format("{}, {} tokens", pair_name(pair), tokens),
                "bars",
                "",
                "max activated",
                {},
                {}};
      for (const System& system : systems()) {
        plot.series.push_back({std::string(system.name), {}, {}});
      }
      for (const double replication : spec.replication) {
        const SystemValues values = values_at(rows, replication, tokens);
        plot.categories.push_back(times_text(replication));
        for (std::size_t s = 0; s < systems().size(); ++s) {
          plot.series[s].y.push_back(values.of(systems()[s]));
        }
        over_optimal.offer(
            change_row(where(pair, replication, tokens), "METRO over optimal, at most", "+10.9",
                       values, kMetro, kOptimal),
            true);
        under_even.offer(
            change_row(where(pair, replication, tokens), "METRO under even split, at most", "-42.3",
                       values, kMetro, kEplb),
            false);
      }
      figure.plots.push_back(std::move(plot));
    }
  }
  figure.rows = {over_optimal.row, under_even.row};

  const Pair& last = pairs().back();
  const auto trace = runner.routing(last);
  for (const System& system : {kEplb, kMetro, kOptimal, kHomed}) {
    ActivatedMapSpec spec{std::string(system.algorithm),
                          last.gpus,
                          runner.most_replication(),
                          32,
                          std::string(system.policy),
                          kBatches,
                          runner.seed()};
    figure.maps.emplace_back(fmt::format("{}, 32 tokens, {}", pair_name(last), system.name),
                             activated_map(*trace, spec));
  }
  return figure;
}

}  // namespace metro::reproduction
