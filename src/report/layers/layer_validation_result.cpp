// SPDX-License-Identifier: Apache-2.0
#include "report/layers/layer_validation_result.hpp"

#include <fmt/format.h>

#include "core/vocabulary.hpp"
#include "metro/model.hpp"
#include "metro/policy_names.hpp"
#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::report {

using Json = nlohmann::ordered_json;

namespace {

using layer_bench::LayerChange;
using layer_bench::LayerComparison;
using layer_bench::LayerPrediction;

constexpr double kGoalPoints = 2;

Json summary_json(const cost::ErrorSummary& summary) {
  return {{"mean", summary.mape},
          {"median", summary.median},
          {"p90", summary.p90},
          {"bias", summary.bias}};
}

Json changes_json(const std::vector<LayerChange>& changes) {
  Json json = summary_json(layer_bench::change_errors(changes));
  json["changes"] = changes.size();
  json["within_2_points"] = layer_bench::share_within(changes, kGoalPoints);
  return json;
}

/// The change of a row among `changes`; null where it has none.
Json change_json(const std::vector<LayerChange>& changes, const LayerTiming* row) {
  for (const LayerChange& change : changes) {
    if (change.row == row) {
      return {{"measured", change.measured}, {"predicted", change.predicted}};
    }
  }
  return nullptr;
}

std::string percent(double value) { return fmt::format("{:.1f}", value); }

std::string changes_line(std::string_view name, const std::vector<LayerChange>& changes) {
  const cost::ErrorSummary errors = layer_bench::change_errors(changes);
  return fmt::format(
      "Change against {}: {} rows, off by {:.1f} points on average (90th percentile {:.1f}, bias "
      "{:+.1f}), {:.0f} % within {:g} points.\n",
      name, changes.size(), errors.mape, errors.p90, errors.bias,
      100 * layer_bench::share_within(changes, kGoalPoints), kGoalPoints);
}

}  // namespace

Json layer_validation_result(const LayerPrediction& prediction, const LayerComparison& comparison,
                             const GpuSpec& gpu, std::uint64_t seed,
                             const std::vector<std::filesystem::path>& inputs) {
  Json result = make_result("validate", Evidence::kSimulated, seed, inputs);
  result["gpu"] = gpu.name;
  result["experts"] = summary_json(comparison.experts);
  result["layer"] = summary_json(comparison.layer);
  result["by"] = Json::array();
  for (const layer_bench::LayerErrors& of : comparison.by) {
    result["by"].push_back({{"model", of.model},
                            {"dtype", of.dtype},
                            {"experts_are", of.sharded ? kMoeTp : kWholeExperts},
                            {"rows", of.rows},
                            {"experts", summary_json(of.experts)},
                            {"layer", summary_json(of.layer)}});
  }
  result["change_points"] = {{"vs_none", changes_json(comparison.vs_none)},
                             {"vs_even", changes_json(comparison.vs_even)}};
  result["skipped"] = Json::array();
  for (const layer_bench::SkippedRow& skipped : prediction.skipped) {
    result["skipped"].push_back({{"row", skipped.row}, {"why", skipped.why}});
  }
  result["rows"] = Json::array();
  for (const layer_bench::PredictedLayer& predicted : prediction.rows) {
    const LayerTiming& row = *predicted.row;
    result["rows"].push_back({{"model", row.model},
                              {"dtype", data_type_name(row.dtype)},
                              {"gpus", row.gpus},
                              {"tokens_per_gpu", row.tokens_per_gpu},
                              {"replication", row.replication},
                              {"policy", row.policy},
                              {"experts_us", row.experts_us > 0 ? Json(row.experts_us) : Json()},
                              {"predicted_experts_us", predicted.experts_us},
                              {"layer_us", row.layer_us},
                              {"predicted_layer_us", predicted.layer_us},
                              {"change_vs_none", change_json(comparison.vs_none, &row)},
                              {"change_vs_even", change_json(comparison.vs_even, &row)}});
  }
  return result;
}

std::string layer_validation_table(const LayerPrediction& prediction,
                                   const LayerComparison& comparison, const GpuSpec& gpu,
                                   int width) {
  Table table({"model", "dtype", "experts", "rows", "expert time: error %", "bias", "p90",
               "layer: error %", "bias", "p90"},
              3);
  table.may_leave_out({"p90", "bias", "experts"});
  for (const layer_bench::LayerErrors& of : comparison.by) {
    table.add_row({of.model, of.dtype, std::string(of.sharded ? kMoeTp : kWholeExperts),
                   fmt::format("{}", of.rows), percent(of.experts.mape), percent(of.experts.bias),
                   percent(of.experts.p90), percent(of.layer.mape), percent(of.layer.bias),
                   percent(of.layer.p90)});
  }
  table.add_row({"all whole", "", "", "", percent(comparison.experts.mape),
                 percent(comparison.experts.bias), percent(comparison.experts.p90),
                 percent(comparison.layer.mape), percent(comparison.layer.bias),
                 percent(comparison.layer.p90)});
  std::string text = fmt::format("One MoE layer on {}, predicted and measured.\n\n", gpu.name) +
                     table.text(width) + "\n" + changes_line("EPLB off", comparison.vs_none) +
                     changes_line(kEvenPolicy, comparison.vs_even);
  for (const layer_bench::SkippedRow& skipped : prediction.skipped) {
    text += fmt::format("Row {} is left out: {}.\n", skipped.row, skipped.why);
  }
  return text;
}

}  // namespace metro::report
