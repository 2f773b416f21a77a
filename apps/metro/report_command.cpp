// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "command.hpp"
#include "io/result_file.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/report_page.hpp"
#include "report/result.hpp"

namespace metro::cli {
namespace {

struct ReportOptions : CommonOptions {
  std::vector<std::filesystem::path> results;
  std::filesystem::path output;
};

void run(const ReportOptions& options) {
  if (options.results.empty()) {
    throw Error(ErrorCode::kUsage, "report needs a RESULT, as a command prints it with --json");
  }
  std::vector<report::NamedResult> results;
  for (const auto& path : options.results) {
    results.push_back({path.string(), io::read_result(path)});
  }
  io::write_file(options.output, report::report_page(results));
  if (!options.json) {
    print(fmt::format("Report page: {}\n", options.output.string()));
    return;
  }
  auto result =
      report::make_result("report", report::Evidence::kSimulated, options.seed, options.results);
  result["evidence"] = results.front().result["evidence"];
  result["output"] = options.output.string();
  print(report::to_text(result));
}

}  // namespace

void add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command =
      add_command(app, "report",
                  "Make one page, complete without network, of the results of commands", *options);
  command->add_option("RESULT", options->results, "What commands printed with --json")
      ->type_name("FILE ...");
  add_path(*command, "-o,--output", options->output, "Where to write the page (.html)")->required();
  command->footer("Example: metro sweep ... --json >sweep.json; metro report sweep.json -o r.html");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
