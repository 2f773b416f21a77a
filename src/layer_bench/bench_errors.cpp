// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/bench_errors.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "layer_bench/layer_bench.hpp"
#include "metro/policy_names.hpp"

namespace metro::layer_bench {
namespace {

struct Errors {
  std::vector<double> experts;
  std::vector<double> layer;
  void add(const PredictedLayer& predicted) {
    const LayerTiming& row = *predicted.row;
    if (row.experts_us > 0) experts.push_back(100 * (predicted.experts_us / row.experts_us - 1));
    layer.push_back(100 * (predicted.layer_us / row.layer_us - 1));
  }
};

/// Rows that ran the same batches.
auto point_of(const LayerTiming& row) {
  return std::tie(row.model, row.dtype, row.gpus, row.tokens_per_gpu, row.dispatch, row.emulated);
}

/// The change of each row that has a row of `policy` at its point, and at its replication if that
/// matters.
std::vector<LayerChange> changes(const std::vector<PredictedLayer>& rows, std::string_view policy,
                                 bool same_replication) {
  std::vector<LayerChange> found;
  for (const PredictedLayer& of : rows) {
    const auto against = std::ranges::find_if(rows, [&](const PredictedLayer& other) {
      return other.row->policy == policy && point_of(*other.row) == point_of(*of.row) &&
             (!same_replication || other.row->replication == of.row->replication);
    });
    if (against == rows.end() || against->row == of.row) continue;
    if (same_replication && (of.row->policy == kEplbOff || of.row->policy == kMoeTp)) continue;
    found.push_back({of.row, against->row, 100 * (of.row->layer_us / against->row->layer_us - 1),
                     100 * (of.layer_us / against->layer_us - 1)});
  }
  return found;
}

}  // namespace

LayerComparison compare_layers(const LayerPrediction& prediction) {
  LayerComparison result;
  std::vector<Errors> errors;
  Errors whole;
  for (const PredictedLayer& predicted : prediction.rows) {
    const LayerTiming& row = *predicted.row;
    const std::string dtype(data_type_name(row.dtype));
    const bool sharded = row.policy == kMoeTp;
    auto group = std::ranges::find_if(result.by, [&](const LayerErrors& of) {
      return of.model == row.model && of.dtype == dtype && of.sharded == sharded;
    });
    if (group == result.by.end()) {
      LayerErrors& added = result.by.emplace_back();
      added.model = row.model;
      added.dtype = dtype;
      added.sharded = sharded;
      errors.emplace_back();
      group = std::prev(result.by.end());
    }
    ++group->rows;
    errors[static_cast<std::size_t>(group - result.by.begin())].add(predicted);
    if (!sharded) whole.add(predicted);
  }
  for (std::size_t i = 0; i < result.by.size(); ++i) {
    result.by[i].experts = cost::summarise_errors(errors[i].experts);
    result.by[i].layer = cost::summarise_errors(errors[i].layer);
  }
  result.experts = cost::summarise_errors(whole.experts);
  result.layer = cost::summarise_errors(whole.layer);
  result.vs_none = changes(prediction.rows, kEplbOff, false);
  result.vs_even = changes(prediction.rows, kEvenPolicy, true);
  return result;
}

cost::ErrorSummary change_errors(const std::vector<LayerChange>& changes) {
  std::vector<double> errors;
  for (const LayerChange& change : changes) errors.push_back(change.error_points());
  return cost::summarise_errors(errors);
}

double share_within(const std::vector<LayerChange>& changes, double points) {
  if (changes.empty()) return 0;
  const auto within = std::ranges::count_if(changes, [points](const LayerChange& change) {
    return std::abs(change.error_points()) <= points;
  });
  return static_cast<double>(within) / static_cast<double>(changes.size());
}

}  // namespace metro::layer_bench
