// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "command.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/placement.hpp"
#include "metro/trace_generator.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "report/table.hpp"
#include "trace_command.hpp"

namespace metro::cli {
namespace {

constexpr std::int64_t kDefaultTokens = 16384;
constexpr std::int64_t kDecodeLength = 64;    // short stretches of many requests
constexpr std::int64_t kPrefillLength = 512;  // whole prompts

struct TraceGenerateOptions : CommonOptions {
  std::string profile;
  std::filesystem::path fit;
  std::filesystem::path output;
  std::string phase;
  std::int64_t tokens = 0;           // 0: the default, or as many as the fitted trace has
  std::int64_t sequence_length = 0;  // 0: by phase, or as in the fitted trace
  int layers = 0;                    // 0: the profile's; so for experts and topk
  int experts = 0;
  int topk = 0;
};

std::vector<std::string_view> profile_names() {
  std::vector<std::string_view> names;
  for (const RouterProfile& profile : router_profiles()) names.push_back(profile.name);
  return names;
}

std::string describe_profiles() {
  std::string text;
  for (const RouterProfile& profile : router_profiles()) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", profile.name, profile.summary);
  }
  return text;
}

/// The profile's model in the shape asked for.
RouterModel shaped_model(const TraceGenerateOptions& options) {
  RouterModel model = find_router_profile(options.profile)->model;
  if (options.layers > 0) model.num_layers = options.layers;
  if (options.topk > 0) model.topk = options.topk;
  if (options.experts > 0) model.num_experts = options.experts;
  if (model.topk > model.num_experts) {
    throw Error(ErrorCode::kUsage, fmt::format("--topk is {}, must be at most {}, the experts",
                                               model.topk, model.num_experts));
  }
  model.num_groups = std::min(model.num_groups, std::max(1, model.num_experts / 4));
  return model;
}

/// The fitted trace's sequences, over and over, until there are `tokens`.
std::vector<std::int64_t> repeat_sequences(const std::vector<std::int64_t>& original,
                                           std::int64_t tokens) {
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; tokens > 0; i = (i + 1) % original.size()) {
    lengths.push_back(std::min(original[i], tokens));
    tokens -= lengths.back();
  }
  return lengths;
}

nlohmann::ordered_json model_json(const RouterModel& model) {
  nlohmann::ordered_json json = {{"num_groups", model.num_groups},
                                 {"topic_spread", model.topic_spread},
                                 {"drift_spread", model.drift_spread},
                                 {"drift_correlation", model.drift_correlation},
                                 {"whim_spread", model.whim_spread}};
  if (model.popularity.empty()) {
    json["popularity_spread"] = {model.popularity_spread_min, model.popularity_spread_max};
    json["cold_stretch"] = model.cold_stretch;
  }
  return json;
}

double deviation(const FitRow& row) { return row.synthetic / row.original - 1; }

std::string describe_fit(const RouterFit& fit) {
  report::Table table({"tokens", "activated experts", "synthetic", "deviation"});
  for (const FitRow& row : fit.activated) {
    table.add_row({fmt::format("{}", row.tokens),
                   fmt::format("{:.2f}", row.original * fit.model.num_experts),
                   fmt::format("{:.2f}", row.synthetic * fit.model.num_experts),
                   fmt::format("{:+.2f} %", 100 * deviation(row))});
  }
  return "\n" + table.text();
}

nlohmann::ordered_json fit_json(const RouterFit& fit) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const FitRow& row : fit.activated) {
    rows.push_back({{"tokens", row.tokens},
                    {"activated_fraction", row.original},
                    {"synthetic_fraction", row.synthetic},
                    {"deviation", deviation(row)}});
  }
  return rows;
}

/// What to draw.
struct Plan {
  RouterFit router;  // of a profile: the model alone
  std::string phase;
  std::vector<std::int64_t> sequence_lengths;
};

Plan plan_from_profile(const TraceGenerateOptions& options) {
  Plan plan;
  plan.router.model = shaped_model(options);
  plan.phase = options.phase.empty() ? "decode" : options.phase;
  const std::int64_t by_phase = plan.phase == "prefill" ? kPrefillLength : kDecodeLength;
  plan.sequence_lengths =
      equal_sequences(options.tokens > 0 ? options.tokens : kDefaultTokens,
                      options.sequence_length > 0 ? options.sequence_length : by_phase);
  return plan;
}

Plan plan_from_trace(const TraceGenerateOptions& options) {
  const RoutingTrace original = io::read_trace(options.fit);
  Progress progress("metro: fitting");
  Plan plan;
  plan.router = naming(options.fit, [&] {
    return fit_router(original, options.seed,
                      [&](std::size_t done, std::size_t total) { progress.show(done, total); });
  });
  plan.phase = options.phase.empty() ? original.info().phase : options.phase;
  const std::int64_t tokens = options.tokens > 0 ? options.tokens : original.num_tokens();
  plan.sequence_lengths = options.sequence_length > 0
                              ? equal_sequences(tokens, options.sequence_length)
                              : repeat_sequences(original.info().sequence_lengths, tokens);
  return plan;
}

std::string to_text(const TraceGenerateOptions& options, const Plan& plan,
                    const RoutingTrace& trace) {
  return fmt::format("{}: {}, {}, {} tokens x {} layers, top-{} of {} experts, {} sequences\n{}",
                     options.output.string(), trace.info().model, plan.phase, trace.num_tokens(),
                     trace.num_layers(), trace.topk(), trace.num_experts(),
                     plan.sequence_lengths.size(),
                     options.fit.empty() ? "" : describe_fit(plan.router));
}

nlohmann::ordered_json to_json(const TraceGenerateOptions& options, const Plan& plan,
                               const RoutingTrace& trace) {
  std::vector<std::filesystem::path> inputs;
  if (!options.fit.empty()) inputs = report::trace_files(options.fit);
  auto result =
      report::make_result("trace generate", report::Evidence::kSimulated, options.seed, inputs);
  result["output"] = options.output.string();
  if (options.fit.empty()) result["profile"] = options.profile;
  result["phase"] = plan.phase;
  result["tokens"] = trace.num_tokens();
  result["layers"] = trace.num_layers();
  result["topk"] = trace.topk();
  result["experts"] = trace.num_experts();
  result["sequences"] = plan.sequence_lengths.size();
  result["router"] = model_json(plan.router.model);
  result["rows"] = fit_json(plan.router);
  return result;
}

void run(const TraceGenerateOptions& options) {
  check_trace_name(options.output);
  if (options.fit.empty() == options.profile.empty()) {
    throw Error(ErrorCode::kUsage, "one of --profile and --fit is required");
  }
  const Plan plan = options.fit.empty() ? plan_from_profile(options) : plan_from_trace(options);
  const RoutingTrace trace =
      generate_trace(plan.router.model, plan.sequence_lengths, plan.phase, options.seed);
  const std::string text =
      options.json ? report::to_text(to_json(options, plan, trace)) : to_text(options, plan, trace);
  io::write_trace(trace, options.output);
  print(text);
}

}  // namespace

void add_trace_generate(CLI::App& trace) {
  auto options = std::make_shared<TraceGenerateOptions>();
  CLI::App* command = add_command(
      trace, "generate", "Draw a synthetic trace, calibrated to published statistics or to a trace",
      *options);
  CLI::Option* profile =
      add_name(*command, "--profile", options->profile, profile_names(), describe_profiles());
  CLI::Option* fit = add_path(*command, "--fit", options->fit,
                              "Instead of a profile: fit the model to this routing trace");
  fit->excludes(profile);
  add_int64(*command, "--tokens", options->tokens, {.min = 1},
            "Tokens in all (default 16384, or those of the fitted trace)");
  add_int(*command, "--layers", options->layers, {.min = 1, .max = 4096},
          "Other than the profile's")
      ->excludes(fit);
  add_int(*command, "--experts", options->experts, {.min = 1, .max = kMaxExperts},
          "Other than the profile's")
      ->excludes(fit);
  add_int(*command, "--topk", options->topk, {.min = 1, .max = kMaxExperts},
          "Other than the profile's")
      ->excludes(fit);
  add_int64(*command, "--sequence-length", options->sequence_length, {.min = 1},
            "Tokens of each sequence (default 64, for prefill 512)");
  add_name(*command, "--phase", options->phase, kPhases, "Phase to note (default decode)");
  add_path(*command, "-o,--output", options->output, "Trace to write (.npy, and its .json)")
      ->required();
  command->footer("Example: metro trace generate --profile deepseek-v3 --tokens 16384 -o dsv3.npy");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
