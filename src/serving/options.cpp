// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>
#include <cstddef>
#include <limits>
#include <utility>

#include "core/named_rows.hpp"
#include "core/vocabulary.hpp"
#include "io/text_value.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "metro/trace_generator.hpp"
#include "serving/disaggregation.hpp"
#include "serving/files.hpp"
#include "serving/option_makers.hpp"
#include "sim/routing_pool.hpp"

namespace metro::serving {
namespace {

template <typename Value, std::size_t kCount = 2>
using Spelled = std::array<std::pair<std::string_view, Value>, kCount>;

constexpr Spelled<DataType> kCacheTypes = {{{"bf16", DataType::kBf16}, {"fp8", DataType::kFp8}}};
constexpr Spelled<bool, 3> kExperts = {
    {{kWholeExperts, false}, {kMoeTp, true}, {"tensor-sharded", true}}};  // old spelling
constexpr Spelled<Dispatch> kDispatches = {{{to_string(Dispatch::kAllGather), Dispatch::kAllGather},
                                            {to_string(Dispatch::kAllToAll), Dispatch::kAllToAll}}};
constexpr Spelled<Fidelity> kFidelities = {
    {{"full", Fidelity::kFull}, {"table", Fidelity::kTable}}};

constexpr double kMaxInt = std::numeric_limits<std::int32_t>::max();
constexpr double kMaxTokens = kMaxRequestTokens;

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

[[noreturn]] void fail_name(std::string_view name, const std::string& value,
                            const std::vector<std::string_view>& names, std::string_view or_file) {
  fail(fmt::format("{} is '{}', must be one of {}{}{}", name, value, io::join(names), or_file,
                   io::did_you_mean(value, names)));
}

void check_model(std::string_view name, const std::string& text) {
  if (find_model(text) != nullptr || io::is_file_name(text, ".json")) return;
  fail_name(name, text, model_names(), ", or a config.json");
}

void apply_model(Draft& draft, const OptionValue& value) {
  const auto& text = std::get<std::string>(value);
  const ModelConfig* known = find_model(text);
  ModelConfig& model = draft.config.model;
  model = known != nullptr ? *known : draft.files.model(text);
  draft.config.deployment.set_weights(model, model.weights);
}

void check_gpu(std::string_view name, const std::string& text) {
  if (find_gpu(text) == nullptr) fail_name(name, text, gpu_names(), "");
}

OptionValue expert_gpus(const SimulationConfig& config) {
  const Deployment& deployment = config.deployment;
  return std::int64_t{deployment.tensor_sharded_experts ? 1 : deployment.expert_gpus()};
}

void check_routing(std::string_view name, const std::string& text) {
  if (find_router_profile(text) != nullptr || io::is_file_name(text, ".npy")) return;
  std::vector<std::string_view> names;
  for (const RouterProfile& profile : router_profiles()) names.push_back(profile.name);
  fail_name(name, text, names, ", or a trace (.npy)");
}

void apply_routing(Draft& draft, const OptionValue& value) {
  const auto& text = std::get<std::string>(value);
  if (find_router_profile(text) != nullptr) {
    draft.config.profile = text;
    return;
  }
  draft.config.trace = draft.files.trace(text);
  try {
    sim::check_trace(*draft.config.trace, draft.config.model);
  } catch (const Error& error) {
    throw Error(error.code(), text + ": " + error.what());
  }
}

OptionValue routing_name(const SimulationConfig& config) {
  if (config.trace != nullptr) return "trace of " + config.trace->info().model;
  if (!config.profile.empty()) return config.profile;
  return std::string(sim::nearest_profile(config.model).name);
}

void check_ratio(std::string_view name, const std::string& text) {
  if (!parse_ratio(text)) fail(fmt::format("{} is '{}', must be P:D such as 2:6", name, text));
}

bool drafts(const SimulationConfig& config) { return config.draft_tokens > 0; }

using Config = SimulationConfig;

Option model_option() {
  Option option =
      make_option("model", OptionType::kText, "NAME|FILE", "Model, by name or by its config.json");
  option.check = check_model;
  option.apply = apply_model;
  option.in_force = [](const Config& config) { return OptionValue(config.model.name); };
  return option;
}

Option gpu_option() {
  Option option = make_option("gpu", OptionType::kText, "NAME", "GPU, such as h200 or b200");
  option.check = check_gpu;
  option.apply = [](Draft& draft, const OptionValue& value) {
    draft.config.gpu = *find_gpu(std::get<std::string>(value));
  };
  option.in_force = [](const Config& config) { return OptionValue(std::string(config.gpu.name)); };
  return option;
}

Option ep_option() {
  Option option = whole<&Deployment::ep>(
      "ep", 1, kMaxGpus,
      "GPUs that the experts are spread over; each is sharded beyond (default: all)");
  option.in_force = expert_gpus;
  return option;
}

Option dtype_option() {
  Option option = make_option("dtype", OptionType::kName, "NAME",
                              "Number format of the weights (default: the model's)");
  option.names = {"bf16", "fp8", "fp4"};
  option.apply = [](Draft& draft, const OptionValue& value) {
    draft.config.deployment.set_weights(draft.config.model,
                                        *find_data_type(std::get<std::string>(value)));
  };
  option.in_force = [](const Config& config) {
    return OptionValue(std::string(data_type_name(config.deployment.expert_weights)));
  };
  return option;
}

Option calibration_option() {
  Option option = make_option(
      "calibration", OptionType::kFile, "FILE",
      "Measured kernel times of the GPU (.json), or auto for those that came with metro, instead "
      "of the built-in ones");
  option.apply = [](Draft& draft, const OptionValue& value) {
    draft.config.calibration = draft.files.calibration(
        std::get<std::string>(value), draft.config.gpu, draft.spelling("calibration"));
  };
  return not_shown(std::move(option));
}

Option routing_option() {
  Option option =
      make_option("routing", OptionType::kText, "TRACE|PROFILE",
                  "Routing trace (.npy with its .json), or a profile (default: the model's)");
  option.check = check_routing;
  option.apply = apply_routing;
  option.in_force = routing_name;
  return option;
}

Option requests_option() {
  Option option = make_option("requests", OptionType::kFile, "FILE",
                              "Azure, Mooncake, BurstGPT or vidur requests");
  option.apply = [](Draft& draft, const OptionValue& value) {
    draft.config.requests = draft.files.requests(std::get<std::string>(value));
  };
  return not_shown(std::move(option));
}

/// What describes requests together with others of its kind: `Arguments` makes requests of them.
Option of_requests(Option option) { return not_shown(std::move(option)); }

Option draft_acceptance_option() {
  Option option =
      real<&Config::draft_acceptance>("draft-acceptance", 0, 1,
                                      "Chance that a draft is right, given those before it "
                                      "(default {})");
  option.applies = drafts;
  return option;
}

Option disaggregate_option() {
  Option option = make_option("disaggregate", OptionType::kText, "P:D",
                              "Prefill on P of the GPUs and decode on D, or in that ratio");
  option.check = check_ratio;
  option.apply = [](Draft& draft, const OptionValue& value) {
    draft.config.prefill_gpus = prefill_gpus(
        draft.spelling("disaggregate"), std::get<std::string>(value), draft.config.deployment.gpus);
  };
  return not_shown(std::move(option));
}

template <auto kMember>
Option slo_option(std::string_view name, std::string key, std::string help) {
  Option option = real<kMember>(name, 1e-6, 1e9, std::move(help));
  option.key = std::move(key);
  option.in_force = get_positive_member<kMember>;
  return option;
}

/// A help text with a line for each row of a table of the library.
template <typename Table>
std::string with_summaries(std::string_view help, const Table& table) {
  return fmt::format("{}\n{}", help, row_rules(table));
}

std::vector<Option> make_options() {
  const auto placements = row_names(placement_algorithms());
  auto policy_names = row_names(policies());
  policy_names.push_back(kAutoPolicy);
  return {
      required(model_option()),
      required(gpu_option()),
      required(whole<&Deployment::gpus>("gpus", 1, kMaxGpus, "GPUs in all")),
      whole<&Deployment::tp>("tp", 1, kMaxGpus,
                             "GPUs that share attention; it is data-parallel beyond (default {})"),
      ep_option(),
      dtype_option(),
      named<&Deployment::kv, kCacheTypes>("kv-dtype", "Number format of the KV cache (default {})"),
      real<&Config::replication>("replication", 1, kMaxReplicas,
                                 "Replica slots per expert (default {}: none)"),
      one_of<&Config::algorithm>("algorithm", placements,
                                 with_summaries("Placement (default {}):", placement_algorithms())),
      one_of<&Config::policy>(
          "policy", policy_names,
          with_summaries("Routing of steps that only decode (default {}):", policies()) +
              "\nauto: by batch size, home unless another gains more than its router costs"),
      one_of<&Config::prefill_policy>("prefill-policy", policy_names,
                                      "Routing of steps with prompt tokens (default {})"),
      named<&Deployment::tensor_sharded_experts, kExperts>(
          "experts", "Whole experts on GPUs ({}, default), or each sharded over all (moe-TP)"),
      named<&Deployment::dispatch, kDispatches>("dispatch",
                                                "How tokens get to their experts (default {})"),
      not_shown(whole<&Deployment::gpus_per_domain>(
          "gpus-per-domain", 1, kMaxGpus,
          "GPUs that fast links join (default: as such hosts have)")),
      not_shown(kept_in_member<&Deployment::engine>(
          make_option("engine", OptionType::kText, "NAME",
                      "vllm, sglang or trtllm (default: an average of them)"))),
      calibration_option(),
      routing_option(),
      whole<&Config::draft_tokens>("draft-tokens", 0, 64,
                                   "Tokens drafted and verified in each decode step (default {})"),
      draft_acceptance_option(),
      whole<&Config::rearrange_every>("rearrange-every", 1, kMaxInt,
                                      "Steps between new placements (default: never)"),
      requests_option(),
      of_requests(number("isl", OptionType::kInteger, 1, kMaxTokens,
                         "Instead of {requests}: prompt tokens of each request")),
      of_requests(
          number("osl", OptionType::kInteger, 1, kMaxTokens, "Output tokens of each request")),
      of_requests(number("num-requests", OptionType::kInteger, 1, 100'000'000, "Requests")),
      of_requests(number("rate", OptionType::kReal, 1e-9, 1e9,
                         "Requests per second, as a Poisson process")),
      whole<&Config::concurrency>("concurrency", 1, kMaxInt,
                                  "Instead of {rate}: requests kept in flight"),
      whole<&Config::max_batch>(
          "max-batch", 1, kMaxInt,
          "Requests that run at once, over all GPUs (default: as memory allows)"),
      whole<&Config::chunk>("chunk", 1, kMaxInt,
                            "Tokens that an attention rank takes in a step (default {})"),
      named<&Config::fidelity, kFidelities>(
          "fidelity", "Route every layer of every step (full), or draw from tables ({}, default)"),
      disaggregate_option(),
      slo_option<&Config::slo_tpot_ms>("slo-tpot-ms", "slo.tpot_ms",
                                       "Goodput counts requests with a TPOT up to this"),
      slo_option<&Config::slo_ttft_ms>("slo-ttft-ms", "slo.ttft_ms",
                                       "Goodput counts requests with a TTFT up to this"),
  };
}

}  // namespace

std::span<const Option> options() {
  static const std::vector<Option> table = make_options();
  return table;
}

}  // namespace metro::serving
