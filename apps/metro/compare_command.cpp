// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "command.hpp"
#include "cost_options.hpp"
#include "metro/compare.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/compare_result.hpp"
#include "report/report_page.hpp"
#include "report/result.hpp"
#include "terminal.hpp"

namespace metro::cli {
namespace {

struct CompareOptions : CommonOptions {
  std::vector<std::filesystem::path> traces;
  CompareSpec spec;
  std::vector<int> tokens;
  std::vector<int> tokens_per_gpu;
  std::filesystem::path html;
  CostOptions cost;
};

report::TraceComparison compare_trace(const std::filesystem::path& path, const CompareSpec& spec) {
  const RoutingTrace trace = io::read_trace(path);
  Progress progress(fmt::format("metro: comparing on {}", path.filename().string()));
  return naming(path, [&] {
    report::TraceComparison comparison{
        .path = path.string(),
        .info = trace.info(),
        .num_tokens = trace.num_tokens(),
        .num_layers = trace.num_layers(),
        .topk = trace.topk(),
        .rows = compare(trace, spec,
                        [&](std::size_t done, std::size_t total) { progress.show(done, total); }),
        .maps = {},
    };
    for (const ActivatedMapSpec& map : report::map_specs(spec)) {
      comparison.maps.push_back(activated_map(trace, map));
    }
    return comparison;
  });
}

void run(const CompareOptions& options) {
  CompareSpec spec = options.spec;
  spec.seed = options.seed;
  spec.tokens_are_per_gpu = options.tokens.empty();
  if (options.tokens.empty() && options.tokens_per_gpu.empty()) {
    throw Error(ErrorCode::kUsage, "--tokens or --tokens-per-gpu is required");
  }
  spec.tokens = spec.tokens_are_per_gpu ? options.tokens_per_gpu : options.tokens;
  options.cost.check();
  spec.validate();  // before any file is read
  std::vector<std::filesystem::path> more_inputs;
  if (options.cost.is_given()) {
    spec.cost = options.cost.read();
    more_inputs.push_back(options.cost.cost);
  }
  std::vector<report::TraceComparison> comparisons;
  for (const auto& path : options.traces) comparisons.push_back(compare_trace(path, spec));

  if (!options.html.empty() || options.json) {
    const auto result = report::compare_result(spec, comparisons, more_inputs);
    if (!options.html.empty()) {
      io::write_file(options.html, report::report_page({{"metro compare", result}}));
    }
    if (options.json) {
      print(report::to_text(result));
      return;
    }
  }
  print(report::compare_table(spec, comparisons, table_width(options.wide)));
}

}  // namespace

void add_compare(CLI::App& app) {
  auto options = std::make_shared<CompareOptions>();
  CompareSpec& spec = options->spec;
  CLI::App* command =
      add_command(app, "compare",
                  "Replay a routing trace under every policy and show what each gains", *options);
  add_paths(*command, "--trace", options->traces, "Routing trace (.npy with its .json); repeatable")
      ->required();
  add_int_list(*command, "--gpus", spec.gpus, {.min = 1, .max = kMaxGpus}, "GPUs")->required();
  add_int_list(*command, "--ep", spec.ep, {.min = 1, .max = kMaxGpus},
               "GPUs that the experts are spread over; each is sharded beyond. Divides --gpus\n"
               "(default: all GPUs)");
  add_real_list(*command, "--replication", spec.replication, {.min = 1, .max = kMaxReplicas},
                "Slots per expert; replicas = ceil(experts * X / EP) * EP")
      ->required();
  CLI::Option* tokens = add_int_list(*command, "--tokens", options->tokens, {.min = 1},
                                     "Tokens of a decode batch, over all GPUs");
  add_int_list(*command, "--tokens-per-gpu", options->tokens_per_gpu, {.min = 1},
               "Instead of --tokens: tokens of a batch per GPU")
      ->excludes(tokens);
  const std::vector<std::string_view> names = policy_names();
  spec.policies.assign(names.begin(), names.end());
  add_name_list(*command, "--policy", spec.policies, names,
                "Policies to compare (default all):\n" + describe_policies());
  add_name_list(*command, "--algorithm", spec.algorithms, algorithm_names(),
                fmt::format("Placements to compare on (default {}, what engines do today):\n{}",
                            kEplbAlgorithm, describe_algorithms()));
  add_int(*command, "--batches", spec.batches, {.min = 1, .max = 1'000'000},
          "Batches of each size (default 32)");
  add_cost_options(*command, options->cost);
  add_path(*command, "--html", options->html, "Write a report page to this file");
  command->footer(
      "Placements come from the first half of the trace, batches from the second.\n"
      "Example: metro compare --trace decode.npy --gpus 8,16 --replication 1.25,1.5 "
      "--tokens 32,256 --algorithm eplb,homed --html report.html");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
