// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <memory>

#include "command.hpp"
#include "metro/io.hpp"
#include "metro/trace_stats.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "report/trace_result.hpp"
#include "trace_command.hpp"

namespace metro::cli {
namespace {

struct TraceInfoOptions : CommonOptions {
  std::filesystem::path trace;
};

void run(const TraceInfoOptions& options) {
  const RoutingTrace trace = io::read_trace(options.trace);
  const TraceStats stats = measure_trace(trace, options.seed);
  print(options.json
            ? report::to_text(report::trace_result(options.trace, trace, stats, options.seed))
            : report::trace_table(options.trace, trace, stats));
}

}  // namespace

void add_trace_info(CLI::App& trace) {
  auto options = std::make_shared<TraceInfoOptions>();
  CLI::App* command =
      add_command(trace, "info", "Shape, skew, and what batches of each size activate", *options);
  add_path(*command, "FILE", options->trace, "Routing trace (.npy with its .json)")->required();
  command->footer("Example: metro trace info decode.npy");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
