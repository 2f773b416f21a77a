// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command.hpp"
#include "cost/calibration_fit.hpp"
#include "cuda_device.hpp"
#include "layer_bench/calibrate.hpp"
#include "layer_bench/rank_start.hpp"
#include "metro/error.hpp"
#include "metro/gpu.hpp"
#include "metro/io.hpp"
#include "metro/model.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/calibration_table.hpp"

#if METRO_HAVE_EP_CUDA
#include "layer_bench/cuda/calibrate_cuda.hpp"
#endif

namespace metro::cli {
namespace {

constexpr std::array<std::string_view, 2> kDevices = {"cuda", "cpu"};
constexpr std::array<std::string_view, 3> kTypes = {"fp32", "bf16", "fp8"};
// Kimi-K2's experts are DeepSeek-V3's.
constexpr std::array<const char*, 5> kModels = {"Qwen3-30B-A3B", "Qwen3-235B-A22B", "DeepSeek-V3",
                                                "Kimi-K2", "gpt-oss-120b"};

struct CalibrateCommand : CommonOptions {
  layer_bench::CalibrateOptions run;
  std::vector<std::string> models;
  std::vector<std::pair<int, int>> sizes;
  std::vector<std::string> dtypes;
  std::string device = "cuda";
  std::string gpu;
  std::filesystem::path output;
};

/// Each shape once, whichever models have it.
std::vector<layer_bench::ExpertShape> shapes_of(const CalibrateCommand& options) {
  const bool is_cpu = options.device == "cpu";
  std::vector<std::string> models = options.models;
  if (models.empty() && options.sizes.empty()) {
    models.assign(kModels.begin(), kModels.begin() + (is_cpu ? 1 : kModels.size()));
  }
  std::vector<layer_bench::ExpertShape> wanted;
  for (const std::string& name : models) {
    const ModelConfig& model = *find_model(name);
    wanted.push_back({name, model.hidden, model.expert_intermediate, DataType::kBf16});
  }
  for (const auto& [hidden, intermediate] : options.sizes) {
    wanted.push_back({"experts", hidden, intermediate, DataType::kBf16});
  }
  std::vector<std::string> dtypes = options.dtypes;
  if (dtypes.empty())
    dtypes = is_cpu ? std::vector<std::string>{"fp32"} : std::vector<std::string>{"bf16", "fp8"};
  std::vector<layer_bench::ExpertShape> shapes;
  for (layer_bench::ExpertShape shape : wanted) {
    for (const std::string& dtype : dtypes) {
      shape.weights = *find_data_type(dtype);
      const bool is_known = std::ranges::any_of(shapes, [&](const layer_bench::ExpertShape& known) {
        return known.hidden == shape.hidden && known.intermediate == shape.intermediate &&
               known.weights == shape.weights;
      });
      if (!is_known) shapes.push_back(shape);
    }
  }
  return shapes;
}

/// What is wrong with the command line alone.
void check(const CalibrateCommand& options) {
  for (const std::string& name : options.models) {
    if (find_model(name)->num_experts == 0) {
      throw Error(ErrorCode::kUsage, fmt::format("--models names {}, which has no experts", name));
    }
  }
  const bool is_cpu = options.device == "cpu";
  for (const std::string& dtype : options.dtypes) {
    if (!is_cpu && dtype == "fp32") {
      throw Error(ErrorCode::kUsage, "--dtype is fp32, but --device is cuda, use bf16 or fp8");
    }
  }
  for (const auto& [hidden, intermediate] : options.sizes) {
    if (!is_cpu && (hidden % 16 != 0 || intermediate % 16 != 0)) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("--shapes has {}x{}, must be multiples of 16", hidden, intermediate));
    }
  }
}

std::optional<layer_bench::CalibrationRun> measure(const CalibrateCommand& options,
                                                   const layer_bench::CalibrateOptions& run) {
  if (options.device == "cpu") return layer_bench::calibrate_cpu(run);
  require_cuda_device();
#if METRO_HAVE_EP_CUDA
  return layer_bench::cuda::calibrate_cuda(run, layer_bench::started_ranks(run.timeout_s));
#else
  return std::nullopt;
#endif
}

/// The name by which the simulator asks for this file.
std::string gpu_name(const CalibrateCommand& options, const std::string& device) {
  if (!options.gpu.empty()) return options.gpu;
  if (options.device == "cpu") return "cpu";
  const GpuSpec* gpu = find_gpu_of_device(device);
  return gpu != nullptr ? std::string(gpu->name) : device;
}

void run(const CalibrateCommand& options) {
  check(options);
  layer_bench::CalibrateOptions wanted = options.run;
  wanted.shapes = shapes_of(options);
  wanted.seed = options.seed;
  // For who watches: elsewhere stderr is for faults.
  const bool is_watched = ::isatty(STDERR_FILENO) == 1;
  const auto say = [](const std::string& line) {
    std::fputs(fmt::format("metro: calibrate: {}\n", line).c_str(), stderr);
  };
  if (is_watched) wanted.progress = say;
  std::optional<layer_bench::CalibrationRun> measured = measure(options, wanted);
  if (!measured) return;  // rank 0 speaks for all
  Calibration& calibration = measured->calibration;
  if (calibration.experts.empty()) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("no shape was measured; {}", measured->left_out.back()));
  }
  for (const std::string& line : measured->left_out) say("left out: " + line);
  calibration.gpu = gpu_name(options, calibration.device);
  for (auto& expert : calibration.experts) cost::fit_expert_time(expert);
  for (auto& collective : calibration.collectives) cost::fit_collective(collective);
  const std::string file = io::format_calibration(calibration);
  if (!options.output.empty()) io::write_file(options.output, file);
  if (options.json) {
    print(file);
    return;
  }
  std::string text = report::calibration_table(calibration, measured->left_out);
  if (!options.output.empty()) text += fmt::format("\nWritten to {}\n", options.output.string());
  print(text);
}

}  // namespace

void add_calibrate(CLI::App& app) {
  auto options = std::make_shared<CalibrateCommand>();
  CLI::App* command =
      add_command(app, "calibrate", "Measure this machine for the simulator", *options);
  add_name(*command, "--device", options->device, kDevices, "cuda or cpu (default cuda)");
  CLI::Option* models = add_name_list(
      *command, "--models", options->models, model_names(),
      "Whose experts to time (default Qwen3-30B-A3B,Qwen3-235B-A22B,DeepSeek-V3,Kimi-K2,"
      "gpt-oss-120b; cpu: the first)");
  add_size_list(*command, "--shapes", options->sizes, {.min = 1, .max = 1 << 16},
                "Experts of these sizes instead, hidden x intermediate")
      ->excludes(models);
  add_name_list(*command, "--dtype", options->dtypes, kTypes,
                "Weights of the experts (default bf16,fp8; cpu: fp32)");
  command->add_flag("--quick", options->run.quick, "A few points of each shape");
  add_real(*command, "--budget-s", options->run.budget_s, {.min = 0, .max = 86400},
           "Leave out what would end later than this (default: no limit)");
  command->add_option_function<std::string>(
      "--gpu", [options](const std::string& name) { options->gpu = name; },
      "Name in the file (default: this device's among those of `metro simulate --gpu`)");
  add_int(*command, "--threads", options->run.threads, {.min = 1, .max = 1024},
          "CPU threads (default all)");
  add_real(*command, "--weight-gb", options->run.weight_gb, {.min = 0.001, .max = 4096},
           "CPU memory for weights (default 1)");
  add_real(*command, "--timeout-s", options->run.timeout_s, {.min = 0.1, .max = 86400},
           "A GPU that does not answer for so long ends the run (default 30)");
  add_path(*command, "-o,--output", options->output, "Write the calibration to this file");
  command->footer(
      "Examples: metro calibrate -o data/calibration/h100.json\n"
      "          metro calibrate --device cpu --quick --json");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
