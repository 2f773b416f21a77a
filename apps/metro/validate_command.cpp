// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "calibration_folders.hpp"
#include "command.hpp"
#include "cost/validation.hpp"
#include "io/calibration_lookup.hpp"
#include "io/layer_result.hpp"
#include "io/serving_table.hpp"
#include "layer_bench/bench_errors.hpp"
#include "layer_bench/bench_prediction.hpp"
#include "metro/error.hpp"
#include "metro/gpu.hpp"
#include "metro/io.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/layers/layer_validation_result.hpp"
#include "report/result.hpp"
#include "report/validation_result.hpp"
#include "terminal.hpp"

namespace metro::cli {
namespace {

struct ValidateOptions : CommonOptions {
  std::filesystem::path silicon;
  std::filesystem::path bench;
  std::string gpu;
  std::filesystem::path calibration;
};

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

const GpuSpec& gpu_of(const LayerTimings& timings, const ValidateOptions& options) {
  const GpuSpec* gpu =
      options.gpu.empty() ? layer_bench::gpu_of_device(timings.device) : find_gpu(options.gpu);
  if (gpu != nullptr) return *gpu;
  throw Error(ErrorCode::kInput,
              fmt::format("{}: device is '{}', must name a known GPU, or use --gpu",
                          options.bench.string(), timings.device));
}

void validate_layers(const ValidateOptions& options) {
  const LayerTimings timings = io::read_layer_result(options.bench);
  const GpuSpec& gpu = gpu_of(timings, options);
  std::vector<std::filesystem::path> inputs = {options.bench};
  std::optional<Calibration> calibration;
  if (!options.calibration.empty()) {
    inputs.push_back(options.calibration == "auto"
                         ? io::find_calibration(calibration_folders(), gpu.name, "--calibration")
                         : options.calibration);
    calibration = io::read_calibration(inputs.back());
  }
  const layer_bench::LayerPrediction prediction = layer_bench::predict_layers(
      timings, options.bench.string(), gpu, calibration ? &*calibration : nullptr);
  const layer_bench::LayerComparison comparison = layer_bench::compare_layers(prediction);
  print(options.json ? report::to_text(report::layer_validation_result(prediction, comparison, gpu,
                                                                       options.seed, inputs))
                     : report::layer_validation_table(prediction, comparison, gpu,
                                                      table_width(options.wide)));
}

void validate_serving(const ValidateOptions& options) {
  std::optional<Calibration> calibration;
  std::vector<std::filesystem::path> inputs = {options.silicon};
  if (!options.calibration.empty()) {
    inputs.push_back(options.calibration);
    calibration = io::read_calibration(options.calibration);
  }
  const std::vector<ServingPoint> table = io::read_serving_table(options.silicon);
  const cost::Validation validation = cost::validate_serving(table, options.silicon.string(),
                                                             calibration ? &*calibration : nullptr);
  print(options.json ? report::to_text(report::validation_result(validation, options.seed, inputs))
                     : report::validation_table(validation));
}

void run(const ValidateOptions& options) {
  check(options);
  if (options.bench.empty()) {
    validate_serving(options);
  } else {
    validate_layers(options);
  }
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
