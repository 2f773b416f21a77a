// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "advise/redundant_experts.hpp"
#include "calibration_folders.hpp"
#include "command.hpp"
#include "metro/advise.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/placement.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/advice_result.hpp"
#include "report/result.hpp"
#include "serving/files.hpp"
#include "simulation_options.hpp"
#include "terminal.hpp"

namespace metro::cli {
namespace {

struct AdviseCommandOptions : CommonOptions {
  serving::Arguments arguments = command_line_arguments();
  std::vector<double> replication;
  std::vector<int> redundant_experts;
  int jobs = 0;
  bool min_gpus = false;
  std::filesystem::path output;
};

std::vector<FleetPoint> find_least_gpus(const SimulationConfig& serving, const AdviceOptions& how) {
  Progress progress("metro: trying fewer GPUs");
  return smaller_fleets(serving, how,
                        [&](std::size_t done, std::size_t total) { progress.show(done, total); });
}

void check(const AdviseCommandOptions& options) {
  options.arguments.check();
  for (const double ratio : options.replication) {
    if (ratio > 1) continue;
    throw Error(
        ErrorCode::kUsage,
        fmt::format("--replication has {:g}, must be above 1: EPLB off is always tried", ratio));
  }
}

void run(const AdviseCommandOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  check(options);
  serving::Files files(calibration_folders());
  const SimulationConfig serving = options.arguments.config(files, options.seed);
  AdviceOptions how{.num_threads = options.jobs};
  if (!options.replication.empty()) how.replication = options.replication;
  if (!options.redundant_experts.empty()) {
    how.replication = replication_with("--redundant-experts", options.redundant_experts, serving);
  }
  const Advice advice = [&] {
    Progress progress("metro: trying candidates");
    return advise(serving, how,
                  [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  }();
  std::vector<FleetPoint> fleets;
  if (options.min_gpus) fleets = find_least_gpus(serving, how);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;

  std::string text;
  if (options.json || !options.output.empty()) {
    auto result =
        report::make_result("advise", report::Evidence::kSimulated, options.seed, files.inputs());
    report::append_advice(result, serving, advice);
    if (options.min_gpus) report::append_fleets(result, fleets);
    result["margin"] = how.margin;
    result["wall_s"] = wall.count();
    text = report::to_text(result);
  }
  if (!options.output.empty()) io::write_file(options.output, text);
  if (options.json) {
    print(text);
    return;
  }
  print(report::advice_table(serving, advice, wall.count(), table_width(options.wide)) +
        (options.min_gpus ? report::fleet_table(fleets) : ""));
}

}  // namespace

void add_advise(CLI::App& app) {
  auto options = std::make_shared<AdviseCommandOptions>();
  CLI::App* command = add_command(
      app, "advise", "Say whether to replicate experts, how much, and with which policy", *options);
  // What the candidates differ in is not to be said.
  add_simulation_options(*command, options->arguments,
                         {"replication", "algorithm", "policy", "experts"});
  CLI::Option* replication = add_real_list(
      *command, "--replication", options->replication, {.min = 1, .max = kMaxReplicas},
      "Replica slots per expert to try (default 1.125,1.25,1.5)");
  add_int_list(*command, "--redundant-experts", options->redundant_experts,
               {.min = 1, .max = kMaxReplicas},
               "The same as engines count: replica slots over all GPUs beyond one per expert")
      ->excludes(replication);
  add_int(*command, "--jobs", options->jobs, {.min = 1, .max = 4096},
          "Candidates tried at once (default: one per core)");
  command->add_flag("--min-gpus", options->min_gpus,
                    "Also say how few GPUs keep the SLO, of --gpus, half of them, and so on");
  add_path(*command, "-o,--output", options->output, "Write the JSON result to this file");
  command->footer(
      "Tries EPLB off, moe-TP, and each ratio under eplb+even, eplb+hash, homed+home, "
      "homed+metro-paper and homed+optimal,\nthen experts shared by 2 and 4 GPUs (s=2, s=4) alone "
      "and with replicas, at equal memory on the same requests (docs/advise.md).\n"
      "Example: metro advise --model Qwen3-235B-A22B --gpu h200 --gpus 8 --isl 1024 --osl 1024 "
      "--num-requests 500 --concurrency 64");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
