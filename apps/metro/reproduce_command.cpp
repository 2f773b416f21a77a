// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "command.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/reproduce.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/report_page.hpp"
#include "report/reproduce_result.hpp"
#include "report/result.hpp"
#include "terminal.hpp"

namespace metro::cli {
namespace {

struct ReproduceOptions : CommonOptions {
  bool quick = false;
  std::vector<int> figures;
  std::vector<std::filesystem::path> traces;
  int jobs = 0;
  std::filesystem::path output;
  std::filesystem::path html;
};

std::string figures() { return fmt::format("{}", fmt::join(reproduced_figures(), ", ")); }

/// What is wrong with the command line alone.
void check(const ReproduceOptions& options) {
  const std::span<const int> known = reproduced_figures();
  for (const int figure : options.figures) {
    if (std::ranges::find(known, figure) != known.end()) continue;
    throw Error(ErrorCode::kUsage,
                fmt::format("--figure has {}, must be of {}", figure, figures()));
  }
}

Reproduction work_out(const ReproduceOptions& options, const ReproduceSpec& spec) {
  Progress progress("metro: reproducing");
  const auto make = [&] {
    return reproduce(spec,
                     [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  };
  // What a trace does not fit is told with its name, where only one can be meant.
  return options.traces.size() == 1 ? naming(options.traces.front(), make) : make();
}

void run(const ReproduceOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  check(options);
  ReproduceSpec spec;
  spec.figures = options.figures;
  spec.quick = options.quick;
  spec.seed = options.seed;
  spec.num_threads = options.jobs;
  std::vector<std::filesystem::path> inputs;
  for (const auto& path : options.traces) {
    spec.traces.push_back(std::make_shared<const RoutingTrace>(io::read_trace(path)));
    for (auto& file : report::trace_files(path)) inputs.push_back(std::move(file));
  }
  const Reproduction reproduction = work_out(options, spec);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;

  auto result =
      report::make_result("reproduce", report::Evidence::kSimulated, options.seed, inputs);
  report::append_reproduction(result, spec, reproduction);
  if (!options.html.empty()) {
    io::write_file(options.html, report::report_page({{"metro reproduce", result}}));
  }
  result["wall_s"] = wall.count();
  const std::string text = report::to_text(result);
  if (!options.output.empty()) io::write_file(options.output, text);
  print(options.json ? text : report::reproduction_table(reproduction, table_width(options.wide)));
}

}  // namespace

void add_reproduce(CLI::App& app) {
  auto options = std::make_shared<ReproduceOptions>();
  CLI::App* command =
      add_command(app, "reproduce",
                  "Make the METRO paper's figures again, with the rivals it leaves out", *options);
  command->add_flag("--quick", options->quick, "Fewer batch sizes, and half the requests");
  add_int_list(*command, "--figure", options->figures, {.min = 1},
               fmt::format("Figures of the paper: {} (default all)", figures()));
  add_paths(*command, "--trace", options->traces,
            "Routing trace for the models that it fits, instead of synthetic ones; repeatable");
  add_int(*command, "--jobs", options->jobs, {.min = 1, .max = 4096},
          "Runs worked out at once (default: one per core); the result does not depend on it");
  add_path(*command, "-o,--output", options->output, "Write the result to this file (.json)");
  add_path(*command, "--html", options->html, "Write a report page to this file");
  command->footer("Example: metro reproduce --quick --html report.html");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
