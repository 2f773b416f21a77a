// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "calibration_folders.hpp"
#include "command.hpp"
#include "metro/sweep.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "serving/option.hpp"
#include "simulation_options.hpp"
#include "sweep/sweep_result.hpp"
#include "terminal.hpp"

#if METRO_HAVE_MPI
#include "sweep/mpi_workers.hpp"
#endif

namespace metro::cli {
namespace {

struct SweepOptions : CommonOptions {
  std::vector<std::pair<std::string_view, std::string>> lists;  ///< option, "a,b,..."
  int jobs = 0;
  std::filesystem::path journal;
};

/// The entries of "a,b,...": the library checks them point by point.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> entries;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    entries.push_back(text.substr(begin, comma - begin));
    begin = comma + 1;
  }
  return entries;
}

SweepSpec spec_of(const SweepOptions& options) {
  SweepSpec spec;
  for (const auto& [name, text] : options.lists) {
    if (!text.empty()) spec.axes.push_back({std::string(name), split(text)});
  }
  spec.seed = options.seed;
  spec.journal = options.journal;
  spec.calibration_folders = calibration_folders();
  spec.spelling = as_option;
  return spec;
}

std::unique_ptr<SweepWorkers> workers_of(const SweepOptions& options) {
#if METRO_HAVE_MPI
  if (auto ranks = sweeping::join_mpi_workers()) return ranks;
#endif
  return make_thread_workers(options.jobs);
}

void run(const SweepOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const SweepSpec spec = spec_of(options);
  const std::unique_ptr<SweepWorkers> workers = workers_of(options);
  const Sweep swept = [&] {
    Progress progress("metro: sweeping");
    return sweep(spec, *workers,
                 [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  }();
  if (!workers->is_writer()) return;
  if (!options.json) {
    print(sweeping::sweep_table(spec, swept, table_width(options.wide)));
    return;
  }
  auto result = sweeping::sweep_result(spec, swept);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  result["wall_s"] = wall.count();
  print(report::to_text(result));
}

}  // namespace

void add_sweep(CLI::App& app) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App* command =
      add_command(app, "sweep",
                  "Simulate every combination of comma-separated options; mark the best", *options);
  // The options of `simulate`, each as a list.
  const auto known = serving::options();
  options->lists.reserve(known.size());  // options keep references to the texts
  for (const serving::Option& option : known) {
    auto& [_, text] = options->lists.emplace_back(option.name, "");
    command->add_option(as_option(option.name), text, option.help_text(as_option))
        ->type_name(std::string(option.value) + ",...")
        ->required(option.required);
  }
  add_int(*command, "--jobs", options->jobs, {.min = 1, .max = 4096},
          "Points worked out at once (default: one per core)");
  add_path(*command, "-o,--output", options->journal,
           "Keep finished points in this file, and go on from what it holds");
  command->footer(
      "Under mpirun the ranks share out the points, and the first one writes.\n"
      "Example: metro sweep --model DeepSeek-V3 --gpu h200 --gpus 8,16 --replication 1,1.25 "
      "--isl 1024 --osl 1024 --num-requests 500 --concurrency 64,256 -o sweep.jsonl");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
