// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "cost/validation.hpp"
#include "io/serving_table.hpp"
#include "metro/error.hpp"
#include "metro/gpu.hpp"
#include "metro/io.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "report/table.hpp"
#include "validate_layers.hpp"

namespace metro::cli {
namespace {

struct ValidateOptions : CommonOptions {
  std::filesystem::path silicon;
  std::filesystem::path bench;
  std::string gpu;
  std::filesystem::path calibration;
};

nlohmann::ordered_json summary_json(const cost::ErrorSummary& summary) {
  return {{"mape", summary.mape},
          {"median", summary.median},
          {"p90", summary.p90},
          {"bias", summary.bias}};
}

nlohmann::ordered_json to_json(const cost::Validation& validation, nlohmann::ordered_json result) {
  result["measurements"] = validation.measurements;
  result["tpot"] = summary_json(validation.tpot);
  result["ttft"] = summary_json(validation.ttft);
  result["by"] = nlohmann::ordered_json::array();
  for (const cost::PairError& pair : validation.by) {
    result["by"].push_back({{"model", pair.model},
                            {"gpu", pair.gpu},
                            {"measurements", pair.measurements},
                            {"tpot_mape", pair.tpot_mape},
                            {"ttft_mape", pair.ttft_mape}});
  }
  result["repeat_spread"] = validation.repeat_spread;
  result["skipped"] = nlohmann::ordered_json::array();
  for (const cost::SkippedPoint& skipped : validation.skipped) {
    result["skipped"].push_back({{"id", skipped.id}, {"why", skipped.why}});
  }
  result["rows"] = nlohmann::ordered_json::array();
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

std::string to_table(const cost::Validation& validation) {
  report::Table table({"model", "GPU", "measurements", "TPOT error %", "TTFT error %"}, 2);
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

void check(const ValidateOptions& options) {
  if (options.silicon.empty() == options.bench.empty()) {
    throw Error(ErrorCode::kUsage, "one of --silicon and --bench is required, and only one");
  }
  if (options.gpu.empty()) return;
  if (options.bench.empty()) throw Error(ErrorCode::kUsage, "--gpu goes with --bench only");
  if (find_gpu(options.gpu) != nullptr) return;
  throw Error(ErrorCode::kUsage,
              fmt::format("--gpu is '{}', must be one of {}{}", options.gpu, join(gpu_names()),
                          did_you_mean(options.gpu, gpu_names())));
}

void run(const ValidateOptions& options) {
  check(options);
  if (!options.bench.empty()) {
    validate_layers({.bench = options.bench,
                     .calibration = options.calibration,
                     .gpu = options.gpu,
                     .json = options.json,
                     .seed = options.seed});
    return;
  }
  std::optional<Calibration> calibration;
  std::vector<std::filesystem::path> inputs = {options.silicon};
  if (!options.calibration.empty()) {
    inputs.push_back(options.calibration);
    calibration = io::read_calibration(options.calibration);
  }
  const std::vector<ServingPoint> table = io::read_serving_table(options.silicon);
  const cost::Validation validation = cost::validate_serving(table, options.silicon.string(),
                                                             calibration ? &*calibration : nullptr);
  print(options.json ? report::to_text(to_json(
                           validation, report::make_result("validate", report::Evidence::kSimulated,
                                                           options.seed, inputs)))
                     : to_table(validation));
}

}  // namespace

void add_validate(CLI::App& app) {
  auto options = std::make_shared<ValidateOptions>();
  CLI::App* command = add_command(
      app, "validate",
      "Predict measured serving points or layers and show how far off the predictions are",
      *options);
  add_path(*command, "--silicon", options->silicon, "Table of measured serving points (.csv)");
  add_path(*command, "--bench", options->bench,
           "Instead: layers that 'metro bench layer --json' measured (.json)");
  command->add_option("--gpu", options->gpu, "GPU of --bench (default: the result's device)")
      ->type_name("NAME");
  add_path(
      *command, "--calibration", options->calibration,
      "Measured kernel times or engine constants to use (.json); auto with --bench: metro's own");
  command->footer("Errors are per cent of the measured value; repeated rows count once.");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
