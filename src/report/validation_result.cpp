// SPDX-License-Identifier: Apache-2.0
#include "report/validation_result.hpp"

#include <fmt/format.h>

#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::report {

using Json = nlohmann::ordered_json;

namespace {

Json summary_json(const cost::ErrorSummary& summary) {
  return {{"mape", summary.mape},
          {"median", summary.median},
          {"p90", summary.p90},
          {"bias", summary.bias}};
}

}  // namespace

Json validation_result(const cost::Validation& validation, std::uint64_t seed,
                       const std::vector<std::filesystem::path>& inputs) {
  Json result = make_result("validate", Evidence::kSimulated, seed, inputs);
  result["measurements"] = validation.measurements;
  result["tpot"] = summary_json(validation.tpot);
  result["ttft"] = summary_json(validation.ttft);
  result["by"] = Json::array();
  for (const cost::PairError& pair : validation.by) {
    result["by"].push_back({{"model", pair.model},
                            {"gpu", pair.gpu},
                            {"measurements", pair.measurements},
                            {"tpot_mape", pair.tpot_mape},
                            {"ttft_mape", pair.ttft_mape}});
  }
  result["repeat_spread"] = validation.repeat_spread;
  result["skipped"] = Json::array();
  for (const cost::SkippedPoint& skipped : validation.skipped) {
    result["skipped"].push_back({{"id", skipped.id}, {"why", skipped.why}});
  }
  result["rows"] = Json::array();
  for (const cost::PredictedPoint& row : validation.points) {
    result["rows"].push_back({{"id", row.point->id},
                              {"measurement_id", row.point->measurement_id},
                              {"tpot_ms", row.point->tpot_ms},
                              {"predicted_tpot_ms", row.tpot_ms},
                              {"ttft_ms", row.point->ttft_ms},
                              {"predicted_ttft_ms", row.ttft_ms}});
  }
  return result;
}

std::string validation_table(const cost::Validation& validation) {
  Table table({"model", "GPU", "measurements", "TPOT error %", "TTFT error %"}, 2);
  for (const cost::PairError& pair : validation.by) {
    table.add_row({pair.model, pair.gpu, fmt::format("{}", pair.measurements),
                   fmt::format("{:.1f}", pair.tpot_mape), fmt::format("{:.1f}", pair.ttft_mape)});
  }
  table.add_row({"all", "", fmt::format("{}", validation.measurements),
                 fmt::format("{:.1f}", validation.tpot.mape),
                 fmt::format("{:.1f}", validation.ttft.mape)});
  return table.text() + fmt::format(
                            "TPOT: median {:.1f} %, 90th percentile {:.1f} %, bias {:+.1f} %; "
                            "repeats of one point "
                            "lie {:.1f} % from their mean. {} rows skipped.\n",
                            validation.tpot.median, validation.tpot.p90, validation.tpot.bias,
                            validation.repeat_spread, validation.skipped.size());
}

}  // namespace metro::report
