// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "cost/error_summary.hpp"
#include "layer_bench/bench_prediction.hpp"

namespace metro::layer_bench {

/// How far off the rows of one model and number format are, in per cent of the measured time.
/// Whole experts and sharded ones are apart: they are kernels of different shapes.
struct LayerErrors {
  std::string model;
  std::string dtype;
  bool sharded = false;
  int rows = 0;
  cost::ErrorSummary experts;
  cost::ErrorSummary layer;
};

/// What a policy changes in the layer's time against another row of its point, in per cent.
struct LayerChange {
  const LayerTiming* row;
  const LayerTiming* against;
  double measured = 0;
  double predicted = 0;
  [[nodiscard]] double error_points() const noexcept { return predicted - measured; }
};

struct LayerComparison {
  std::vector<LayerErrors> by;  ///< in the order of first appearance
  cost::ErrorSummary experts;   ///< rows of whole experts
  cost::ErrorSummary layer;
  std::vector<LayerChange> vs_none;  ///< every other row, against EPLB off
  std::vector<LayerChange> vs_even;  ///< every policy, against `even` at its replication
};

LayerComparison compare_layers(const LayerPrediction& prediction);

/// Errors of the changes, in points; and the share of them that are within `points`.
cost::ErrorSummary change_errors(const std::vector<LayerChange>& changes);
double share_within(const std::vector<LayerChange>& changes, double points);

}  // namespace metro::layer_bench
