// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "calibration_folders.hpp"
#include "command.hpp"
#include "metro/io.hpp"
#include "metro/simulate.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/chrome_trace.hpp"
#include "report/result.hpp"
#include "report/simulate_result.hpp"
#include "serving/files.hpp"
#include "simulation_options.hpp"

namespace metro::cli {
namespace {

struct SimulateOptions : CommonOptions {
  serving::Arguments arguments = command_line_arguments();
  std::filesystem::path perfetto;
  int perfetto_steps = 16;
};

void run(const SimulateOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  options.arguments.check();
  serving::Files files(calibration_folders());
  SimulationConfig config = options.arguments.config(files, options.seed);
  if (!options.perfetto.empty()) config.timeline_steps = options.perfetto_steps;
  const SimulationResult simulated = [&] {
    Progress progress("metro: simulating");
    return simulate(config, nullptr,
                    [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  }();
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;

  if (!options.perfetto.empty()) {
    io::write_file(options.perfetto, report::chrome_trace(simulated.timeline));
  }
  if (!options.json) {
    print(report::simulation_table(config, simulated, wall.count()));
    return;
  }
  auto result =
      report::make_result("simulate", report::Evidence::kSimulated, options.seed, files.inputs());
  report::append_configuration(result, config);
  report::append_simulation(result, config, simulated);
  result["wall_s"] = wall.count();
  print(report::to_text(result));
}

}  // namespace

void add_simulate(CLI::App& app) {
  auto options = std::make_shared<SimulateOptions>();
  CLI::App* command = add_command(
      app, "simulate", "Serve requests on modelled GPUs, with placement and routing in the loop",
      *options);
  add_simulation_options(*command, options->arguments);
  add_path(*command, "--perfetto", options->perfetto,
           "Write a timeline for ui.perfetto.dev; its steps are routed in full");
  add_int(*command, "--perfetto-steps", options->perfetto_steps, {.min = 1, .max = 10'000},
          "Steps that the timeline shows, from the first on (default 16)");
  command->footer(
      "Example: metro simulate --model Qwen3-235B-A22B --gpu b200 --gpus 8 --replication 1.25 "
      "--isl 1024 --osl 2048 --num-requests 2000 --concurrency 512");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
