// SPDX-License-Identifier: Apache-2.0
#include "serving/arguments.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/engine_list.hpp"
#include "core/lower_case.hpp"
#include "core/vocabulary.hpp"
#include "io/builtin_constants.hpp"
#include "io/text_value.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"
#include "serving/disaggregation.hpp"
#include "serving/files.hpp"

namespace metro::serving {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

std::size_t index_of(const Option& option) {
  return static_cast<std::size_t>(&option - options().data());
}

/// An engine that nobody fitted would get an average one's constants: a name must be known.
void check_engine(const SimulationConfig& config, const std::string& spelling) {
  std::vector<std::string_view> names;
  for (const auto& engine : io::builtin_engines().engines) names.push_back(engine.name);
  if (config.calibration != nullptr) {
    for (const auto& engine : config.calibration->engines) names.push_back(engine.name);
  }
  const std::string& given = config.deployment.engine;
  const auto is_given = [&](std::string_view name) { return equal_ignoring_case(name, given); };
  if (std::ranges::any_of(names, is_given)) return;
  fail(fmt::format("{} is '{}', must be one of {}{}", spelling, given, io::join(names),
                   io::did_you_mean(given, names)));
}

}  // namespace

void Arguments::set(std::string_view name, const std::string& text) {
  const Option& option = find_option(name);
  values_[index_of(option)] = option.parse(spelling_(name), text);
}

const OptionValue& Arguments::value(std::string_view name) const {
  return values_[index_of(find_option(name))];
}

std::int64_t Arguments::whole(std::string_view name) const {
  const auto* whole = std::get_if<std::int64_t>(&value(name));
  return whole == nullptr ? 0 : *whole;
}

void Arguments::check() const {
  for (const Option& option : options()) {
    if (option.required && !has(option.name)) {
      fail(fmt::format("{} is required", spelling_(option.name)));
    }
  }
  const auto* replication = std::get_if<double>(&value("replication"));
  const auto* experts = std::get_if<std::string>(&value("experts"));
  if (replication != nullptr && *replication > 1 && experts != nullptr && is_moe_tp(*experts)) {
    fail(fmt::format("{} is above 1, must be 1 with moe-TP", spelling_("replication")));
  }
  check_requests();
  if (const auto* ratio = std::get_if<std::string>(&value("disaggregate"))) {
    prefill_gpus(spelling_("disaggregate"), *ratio, static_cast<int>(whole("gpus")));
  }
}

void Arguments::check_requests() const {
  const auto s = spelling_;
  constexpr std::array<std::string_view, 3> kShape = {"isl", "osl", "num-requests"};
  constexpr std::array<std::string_view, 2> kArrival = {"rate", "concurrency"};
  const auto is_given = [this](std::string_view name) { return has(name); };
  const bool is_synthetic =
      std::ranges::any_of(kShape, is_given) || std::ranges::any_of(kArrival, is_given);
  const std::string requests = s("requests");
  if (has("requests")) {
    if (!is_synthetic) return;
    fail(fmt::format("{} excludes {}, {}, {}, {} and {}", requests, s("isl"), s("osl"),
                     s("num-requests"), s("rate"), s("concurrency")));
  }
  if (!is_synthetic) {
    fail(fmt::format("{}, or {}, {}, {} and one of {} and {} are required", requests, s("isl"),
                     s("osl"), s("num-requests"), s("rate"), s("concurrency")));
  }
  for (const std::string_view name : kShape) {
    if (!has(name)) fail(fmt::format("{} is required without {}", s(name), requests));
  }
  if (has("rate") == has("concurrency")) {
    fail(fmt::format("one of {} and {} is required, and only one", s("rate"), s("concurrency")));
  }
}

SimulationConfig Arguments::config(Files& files, std::uint64_t seed) const {
  Draft draft{{}, files, spelling_};
  for (const Option& option : options()) {
    const OptionValue& given = values_[index_of(option)];
    if (given.index() != 0 && option.apply != nullptr) option.apply(draft, given);
  }
  SimulationConfig& config = draft.config;
  // Who routes by what a batch costs needs no other policy for prompts.
  const PolicyInfo* policy = find_policy(config.policy);
  const bool takes_any_batch =
      config.policy == kAutoPolicy || (policy != nullptr && policy->uses_cost);
  if (takes_any_batch && !has("prefill-policy")) config.prefill_policy = config.policy;
  config.seed = seed;
  if (has("engine")) check_engine(config, spelling_("engine"));
  if (!has("requests")) {
    config.requests = equal_requests(whole("num-requests"), static_cast<std::int32_t>(whole("isl")),
                                     static_cast<std::int32_t>(whole("osl")));
    if (has("rate")) set_poisson_arrivals(config.requests, std::get<double>(value("rate")), seed);
  }
  return std::move(config);
}

}  // namespace metro::serving
