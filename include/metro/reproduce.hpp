// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metro/activated_map.hpp"
#include "metro/trace.hpp"

namespace metro {

/// One line or one set of bars of a plot.
struct PlotSeries {
  std::string name;
  std::vector<double> x;  ///< empty: the plot's categories
  std::vector<double> y;
};

/// What a plot shows, for any program that draws.
struct Plot {
  std::string title;
  std::string kind;  ///< "bars", "stacked" (bars), "lines" or "points"
  std::string x_label;
  std::string y_label;
  std::vector<std::string> categories;  ///< of bars
  std::vector<PlotSeries> series;
};

/// One quantity of the paper beside ours.
struct ReproducedRow {
  std::string where;     ///< model, GPUs, workload
  std::string quantity;  ///< what, against what
  std::string unit;      ///< "%" (change), "x" (ratio), "us", ...
  std::string paper;     ///< as the paper gives it; empty: the paper does not
  double ours = 0;
  /// The same quantity for rivals in METRO's place: EPLB off, `home`, moe-TP, ...
  std::vector<std::pair<std::string, double>> beside;
};

/// A figure of the paper, made again.
struct ReproducedFigure {
  std::string id;  ///< "5", ..., "13", or "all" for what spans figures
  std::string title;
  std::string note;  ///< what was done, and where it differs from the paper's
  std::vector<ReproducedRow> rows;
  std::vector<Plot> plots;
  std::vector<std::pair<std::string, ActivatedMap>> maps;  ///< with their titles
};

struct ReproduceSpec {
  std::vector<int> figures;  ///< of `reproduced_figures`; empty: all
  bool quick = false;        ///< fewer batch sizes, and half the requests
  /// Recorded routing; each serves the pairs whose model it fits. The others draw from the
  /// synthetic profile of their model.
  std::vector<std::shared_ptr<const RoutingTrace>> traces;
  std::uint64_t seed = 0;
  int num_threads = 0;  ///< 0: one per core. The result does not depend on it.
};

/// Where a pair's routing came from.
struct ReproducedPair {
  std::string name;
  std::string routing;
};

struct Reproduction {
  std::vector<ReproducedPair> pairs;
  std::vector<ReproducedFigure> figures;
};

/// Throws Error{kUsage} for an unknown figure.
void reproduce_check(const ReproduceSpec& spec);

/// Figures of the paper that `reproduce` makes, ascending.
std::span<const int> reproduced_figures() noexcept;

/// Makes figures of the METRO paper (arXiv 2512.09277) again on its three model-hardware pairs,
/// with our simulator in place of its own (docs/reproduce.md). All of it is simulated; nothing is
/// tuned to the paper's figures.
///
/// The same spec gives the same result, bit for bit. `progress(done, total)` counts figures. Throws
/// Error{kUsage} for an unknown figure, Error{kInput} for a trace that fits no pair.
Reproduction reproduce(const ReproduceSpec& spec,
                       const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
