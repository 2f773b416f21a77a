// SPDX-License-Identifier: Apache-2.0
#include "serving_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <numeric>
#include <string_view>
#include <utility>

#include "calibration_lookup.hpp"
#include "command.hpp"
#include "core/vocabulary.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/placement.hpp"
#include "metro/trace_generator.hpp"
#include "names.hpp"
#include "options.hpp"
#include "sim/routing_pool.hpp"

namespace metro::cli {
namespace {

constexpr std::array<std::string_view, 3> kWeightTypes = {"bf16", "fp8", "fp4"};
constexpr std::array<std::string_view, 2> kCacheTypes = {"bf16", "fp8"};
constexpr std::array<std::string_view, 3> kExperts = {kWholeExperts, kMoeTp,
                                                      "tensor-sharded"};  // old spelling
constexpr std::array<std::string_view, 2> kDispatches = {"all-gather", "all-to-all"};
constexpr std::array<std::string_view, 2> kFidelities = {"full", "table"};

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

DataType data_type(std::string_view name) {
  if (name == "fp8") return DataType::kFp8;
  return name == "fp4" ? DataType::kFp4 : DataType::kBf16;
}

/// A name that is no registered one is a file when it looks like one or is there.
bool is_file(const std::string& name, std::string_view suffix) {
  std::error_code error;
  return name.ends_with(suffix) || std::filesystem::exists(name, error);
}

std::vector<std::string_view> profile_names() {
  std::vector<std::string_view> names;
  for (const RouterProfile& profile : router_profiles()) names.push_back(profile.name);
  return names;
}

[[noreturn]] void fail_name(const char* option, const std::string& value,
                            const std::vector<std::string_view>& names, const char* or_file) {
  fail(fmt::format("{} is '{}', must be one of {}{}{}", option, value, join(names), or_file,
                   did_you_mean(value, names)));
}

/// GPUs of the prefill pool for "P:D", which gives the pools' GPUs or their ratio; 0 for none.
int prefill_gpus(const std::string& ratio, int gpus) {
  if (ratio.empty()) return 0;
  std::array<int, 2> parts{};
  const char* at = ratio.data();
  const char* const end = at + ratio.size();
  bool ok = true;
  for (std::size_t i = 0; i < parts.size() && ok; ++i) {
    const auto [stop, error] = std::from_chars(at, end, parts[i]);
    ok = error == std::errc() && parts[i] >= 1 && parts[i] <= kMaxGpus &&
         (i == 0 ? stop != end && *stop == ':' : stop == end);
    at = stop + (i == 0 ? 1 : 0);
  }
  if (!ok) fail(fmt::format("--disaggregate is '{}', must be P:D such as 2:6", ratio));
  const int sum = parts[0] + parts[1];
  if (std::int64_t{gpus} * parts[0] % sum != 0) {
    fail(fmt::format("--disaggregate is '{}', which does not share out {} GPUs evenly", ratio,
                     gpus));
  }
  return static_cast<int>(std::int64_t{gpus} * parts[0] / sum);
}

void check_requests(const ServingOptions& options) {
  const bool is_synthetic = options.isl > 0 || options.osl > 0 || options.num_requests > 0 ||
                            options.rate > 0 || options.concurrency > 0;
  if (!options.requests.empty()) {
    if (is_synthetic) {
      fail("--requests excludes --isl, --osl, --num-requests, --rate and --concurrency");
    }
    return;
  }
  if (!is_synthetic) {
    fail(
        "--requests, or --isl, --osl, --num-requests and one of --rate and --concurrency are "
        "required");
  }
  const std::array<std::pair<const char*, int>, 3> needed = {
      {{"--isl", options.isl}, {"--osl", options.osl}, {"--num-requests", options.num_requests}}};
  for (const auto& [name, value] : needed) {
    if (value == 0) fail(fmt::format("{} is required without --requests", name));
  }
  if ((options.rate > 0) == (options.concurrency > 0)) {
    fail("one of --rate and --concurrency is required, and only one");
  }
}

Deployment deployment_of(const ServingOptions& options, const ModelConfig& model) {
  Deployment deployment;
  deployment.gpus = options.gpus;
  deployment.tp = options.tp;
  deployment.ep = options.ep;
  deployment.tensor_sharded_experts = is_moe_tp(options.experts);
  deployment.gpus_per_domain = options.gpus_per_domain;
  deployment.dispatch = dispatch_of(options.dispatch);
  deployment.set_weights(model, options.dtype.empty() ? model.weights : data_type(options.dtype));
  deployment.kv = data_type(options.kv_dtype);
  deployment.engine = options.engine;
  return deployment;
}

}  // namespace

void add_serving_options(CLI::App& command, ServingOptions& o) {
  constexpr std::int64_t kMaxTokens = kMaxRequestTokens;
  const auto add_model = [&](const char* name, std::string& value, const char* type,
                             const std::string& help) {
    command.add_option(name, value, help)->type_name(type);
  };
  add_model("--model", o.model, "NAME|FILE", "Model, by name or by its config.json");
  add_model("--gpu", o.gpu, "NAME", "GPU, such as h200 or b200");
  command.get_option("--model")->required();
  command.get_option("--gpu")->required();
  add_int(command, "--gpus", o.gpus, {.min = 1, .max = kMaxGpus}, "GPUs in all")->required();
  add_int(command, "--tp", o.tp, {.min = 1, .max = kMaxGpus},
          "GPUs that share attention; it is data-parallel beyond (default 1)");
  add_int(command, "--ep", o.ep, {.min = 1, .max = kMaxGpus},
          "GPUs that the experts are spread over; each is sharded beyond (default: all)");
  add_name(command, "--dtype", o.dtype, kWeightTypes,
           "Number format of the weights (default: the model's)");
  add_name(command, "--kv-dtype", o.kv_dtype, kCacheTypes,
           "Number format of the KV cache (default bf16)");
  add_real(command, "--replication", o.replication, {.min = 1, .max = kMaxReplicas},
           "Replica slots per expert (default 1: none)");
  add_name(command, "--algorithm", o.algorithm, algorithm_names(),
           fmt::format("Placement (default {}):\n{}", o.algorithm, describe_algorithms()));
  add_name(command, "--policy", o.policy, policy_names(),
           fmt::format("Routing of steps that only decode (default {}):\n{}", o.policy,
                       describe_policies()));
  add_name(command, "--prefill-policy", o.prefill_policy, policy_names(),
           fmt::format("Routing of steps with prompt tokens (default {})", o.prefill_policy));
  add_name(command, "--experts", o.experts, kExperts,
           "Whole experts on GPUs (ep, default), or each sharded over all (moe-TP)");
  add_name(command, "--dispatch", o.dispatch, kDispatches,
           "How tokens get to their experts (default all-gather)");
  add_int(command, "--gpus-per-domain", o.gpus_per_domain, {.min = 1, .max = kMaxGpus},
          "GPUs that fast links join (default: as such hosts have)");
  add_model("--engine", o.engine, "NAME", "vllm, sglang or trtllm (default: an average of them)");
  add_path(command, "--calibration", o.calibration,
           "Measured kernel times of the GPU (.json), or auto for those that came with metro, "
           "instead of the built-in ones");
  add_int(command, "--draft-tokens", o.draft_tokens, {.min = 0, .max = 64},
          "Tokens drafted and verified in each decode step (default 0)");
  add_real(command, "--draft-acceptance", o.draft_acceptance, {.min = 0, .max = 1},
           "Chance that a draft is right, given those before it (default 0.7)");
  add_int(command, "--rearrange-every", o.rearrange_every, {.min = 1},
          "Steps between new placements (default: never)");
  add_model("--routing", o.routing, "TRACE|PROFILE",
            "Routing trace (.npy with its .json), or a profile (default: the model's)");
  add_path(command, "--requests", o.requests, "Azure, Mooncake, BurstGPT or vidur requests");
  add_int(command, "--isl", o.isl, {.min = 1, .max = kMaxTokens},
          "Instead of --requests: prompt tokens of each request");
  add_int(command, "--osl", o.osl, {.min = 1, .max = kMaxTokens}, "Output tokens of each request");
  add_int(command, "--num-requests", o.num_requests, {.min = 1, .max = 100'000'000}, "Requests");
  add_real(command, "--rate", o.rate, {.min = 1e-9, .max = 1e9},
           "Requests per second, as a Poisson process");
  add_int(command, "--concurrency", o.concurrency, {.min = 1},
          "Instead of --rate: requests kept in flight");
  add_int(command, "--max-batch", o.max_batch, {.min = 1},
          "Requests that run at once, over all GPUs (default: as memory allows)");
  add_int(command, "--chunk", o.chunk, {.min = 1},
          "Tokens that an attention rank takes in a step (default 8192)");
  add_name(command, "--fidelity", o.fidelity, kFidelities,
           "Route every layer of every step (full), or draw from tables (table, default)");
  add_model("--disaggregate", o.disaggregate, "P:D",
            "Prefill on P of the GPUs and decode on D, or in that ratio");
  add_real(command, "--slo-tpot-ms", o.slo_tpot_ms, {.min = 1e-6, .max = 1e9},
           "Goodput counts requests with a TPOT up to this");
  add_real(command, "--slo-ttft-ms", o.slo_ttft_ms, {.min = 1e-6, .max = 1e9},
           "Goodput counts requests with a TTFT up to this");
}

void check_serving_options(const ServingOptions& options) {
  if (find_gpu(options.gpu) == nullptr) fail_name("--gpu", options.gpu, gpu_names(), "");
  if (find_model(options.model) == nullptr && !is_file(options.model, ".json")) {
    fail_name("--model", options.model, model_names(), ", or a config.json");
  }
  if (!options.routing.empty() && find_router_profile(options.routing) == nullptr &&
      !is_file(options.routing, ".npy")) {
    fail_name("--routing", options.routing, profile_names(), ", or a trace (.npy)");
  }
  if (is_moe_tp(options.experts) && options.replication > 1) {
    fail("--replication is above 1, must be 1 with moe-TP");
  }
  check_requests(options);
  prefill_gpus(options.disaggregate, options.gpus);
}

template <typename Value, typename Read>
const Value& ServingFiles::once(std::map<std::string, Value>& known,
                                const std::filesystem::path& path, const Read& read) {
  const auto found = known.find(path.string());
  if (found != known.end()) return found->second;
  const Value& value = known.emplace(path.string(), read(path)).first->second;
  inputs_.push_back(path);
  return value;
}

SimulationConfig ServingFiles::config(const ServingOptions& options, std::uint64_t seed) {
  SimulationConfig config;
  const ModelConfig* model = find_model(options.model);
  config.model = model != nullptr ? *model : once(models_, options.model, [](const auto& path) {
    return io::load_model_config(path);
  });
  config.gpu = *find_gpu(options.gpu);
  config.deployment = deployment_of(options, config.model);
  if (!options.calibration.empty()) {
    const auto file = find_calibration(options.calibration, options.gpu);
    config.calibration = once(calibrations_, file, [](const auto& path) {
      return std::make_shared<const Calibration>(io::read_calibration(path));
    });
  }
  config.replication = options.replication;
  config.algorithm = options.algorithm;
  config.policy = options.policy;
  config.prefill_policy = options.prefill_policy;
  config.rearrange_every = options.rearrange_every;
  if (find_router_profile(options.routing) != nullptr) {
    config.profile = options.routing;
  } else if (!options.routing.empty()) {
    config.trace = once(traces_, options.routing, [this](const auto& path) {
      auto trace = std::make_shared<const RoutingTrace>(io::read_trace(path));
      inputs_.push_back(std::filesystem::path(path).replace_extension(".json"));
      return trace;
    });
    naming(options.routing, [&] { sim::check_trace(*config.trace, config.model); });
  }
  if (!options.requests.empty()) {
    config.requests =
        once(requests_, options.requests, [](const auto& path) { return io::read_requests(path); });
  } else {
    config.requests = equal_requests(options.num_requests, options.isl, options.osl);
    if (options.rate > 0) set_poisson_arrivals(config.requests, options.rate, seed);
  }
  config.concurrency = options.concurrency;
  config.max_batch = options.max_batch;
  config.chunk = options.chunk;
  config.draft_tokens = options.draft_tokens;
  config.draft_acceptance = options.draft_acceptance;
  config.prefill_gpus = prefill_gpus(options.disaggregate, options.gpus);
  config.fidelity = options.fidelity == "full" ? Fidelity::kFull : Fidelity::kTable;
  config.slo_tpot_ms = options.slo_tpot_ms;
  config.slo_ttft_ms = options.slo_ttft_ms;
  config.seed = seed;
  return config;
}

}  // namespace metro::cli
