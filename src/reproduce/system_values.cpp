// SPDX-License-Identifier: Apache-2.0
#include "reproduce/system_values.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <utility>

namespace metro::reproduction {
namespace {

/// `of(rival)` for every system but the row's two.
template <typename Of>
ReproducedRow row_of(std::string where, std::string quantity, std::string unit, std::string paper,
                     const System& system, const System& base, const Of& of) {
  ReproducedRow row{std::move(where), std::move(quantity), std::move(unit),
                    std::move(paper), of(system),          {}};
  for (const System& rival : systems()) {
    if (rival.key != system.key && rival.key != base.key) {
      row.beside.emplace_back(rival.key, of(rival));
    }
  }
  return row;
}

}  // namespace

double SystemValues::of(const System& system) const {
  for (std::size_t i = 0; i < systems().size(); ++i) {
    if (systems()[i].key == system.key) return values_[i];
  }
  return 0;
}

ReproducedRow change_row(std::string where, std::string quantity, std::string paper,
                         const SystemValues& values, const System& system, const System& base) {
  return row_of(std::move(where), std::move(quantity), "%", std::move(paper), system, base,
                [&](const System& rival) { return values.change_of(rival, base); });
}

ReproducedRow difference_row(std::string where, std::string quantity, std::string unit,
                             std::string paper, const SystemValues& values, const System& system,
                             const System& base) {
  return row_of(std::move(where), std::move(quantity), std::move(unit), std::move(paper), system,
                base, [&](const System& rival) { return values.of(rival) - values.of(base); });
}

Plot change_plot(std::string title, std::string y_label, std::vector<std::string> categories,
                 const std::vector<SystemValues>& values, const System& base) {
  Plot plot{std::move(title), "bars", "", std::move(y_label), std::move(categories), {}};
  for (const System& system : systems()) {
    if (system.key == base.key) continue;
    PlotSeries& series = plot.series.emplace_back(PlotSeries{std::string(system.name), {}, {}});
    for (const SystemValues& at : values) series.y.push_back(at.change_of(system, base));
  }
  return plot;
}

std::string times_text(double value) { return fmt::format("{:g}x", value); }

}  // namespace metro::reproduction
