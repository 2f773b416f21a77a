// SPDX-License-Identifier: Apache-2.0
// The table of a simulation's options: each reaches the configuration, the result and the docs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "metro/error.hpp"
#include "report/option_table.hpp"
#include "report/simulate_result.hpp"
#include "serving/arguments.hpp"
#include "serving/files.hpp"

namespace metro::serving {
namespace {

/// Enough to be a simulation.
Arguments small() {
  Arguments arguments;
  for (const auto& [name, value] :
       {std::pair("model", "gpt-oss-20b"), std::pair("gpu", "H100_SXM"), std::pair("gpus", "4"),
        std::pair("isl", "64"), std::pair("osl", "8"), std::pair("num-requests", "20")}) {
    arguments.set(name, value);
  }
  return arguments;
}

/// A value of the option that is not its default.
std::string other_value(const Option& option) {
  if (option.name == "model") return "Qwen3-30B-A3B";
  if (option.name == "gpu") return "B200";
  if (option.name == "routing") return "uniform";
  if (option.type == OptionType::kReal) return value_text((option.min + option.max) / 2);
  if (option.type == OptionType::kInteger) return "2";
  const std::string now = option.default_text();
  return std::string(option.names.back() == now ? option.names.front() : option.names.back());
}

nlohmann::ordered_json result_of(const SimulationConfig& config) {
  nlohmann::ordered_json result;
  report::append_configuration(result, config);
  return result;
}

const nlohmann::ordered_json& at(const nlohmann::ordered_json& result, std::string key) {
  for (char& c : key) c = c == '.' ? '/' : c;
  return result.at(nlohmann::ordered_json::json_pointer(fmt::format("/{}", key)));
}

TEST(ServingOptions, EachReachesTheConfigurationAndTheResult) {
  int seen = 0;
  for (const Option& option : options()) {
    if (option.key.empty()) continue;
    Files files;
    Arguments arguments = small();
    const std::string text = other_value(option);
    if (option.name == "draft-acceptance") arguments.set("draft-tokens", "1");
    arguments.set(option.name, text);
    const SimulationConfig config = arguments.config(files, 0);
    EXPECT_EQ(value_text(option.in_force(config)), text) << option.name;
    const auto result = result_of(config);
    const auto& shown = at(result, option.key);
    EXPECT_EQ(shown.is_string()
                  ? shown.get<std::string>()
                  : value_text(shown.is_number_float() ? OptionValue(shown.get<double>())
                                                       : OptionValue(shown.get<std::int64_t>())),
              text)
        << option.name;
    ++seen;
  }
  EXPECT_GT(seen, 15);
}

TEST(ServingOptions, ResultsHaveTheKeysOfTheTableAndNoOthers) {
  Files files;
  Arguments arguments = small();
  arguments.set("draft-tokens", "1");
  std::set<std::string> wanted;
  for (const Option& option : options()) {
    if (!option.key.empty()) wanted.insert(option.key.substr(0, option.key.find('.')));
  }
  const auto result = result_of(arguments.config(files, 0));
  std::set<std::string> found;
  for (const auto& [key, _] : result.items()) found.insert(key);
  EXPECT_EQ(found, wanted);
}

TEST(ServingOptions, DefaultsAreThoseOfTheConfiguration) {
  EXPECT_EQ(find_option("chunk").default_text(), std::to_string(SimulationConfig{}.chunk));
  EXPECT_EQ(find_option("prefill-policy").default_text(), SimulationConfig{}.prefill_policy);
  EXPECT_EQ(find_option("ep").default_text(), "") << "follows from gpus";
  EXPECT_EQ(find_option("draft-acceptance").help_text(as_field),
            "Chance that a draft is right, given those before it (default 0.7)");
  EXPECT_EQ(find_option("isl").help_text(as_field),
            "Instead of requests: prompt tokens of each request");
}

std::string fault_of(Arguments arguments, const char* name, const char* value) {
  try {
    arguments.set(name, value);
    arguments.check();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUsage);
    return error.what();
  }
  return "";
}

std::string as_option(std::string_view name) { return fmt::format("--{}", name); }

// They take any batch, so nobody need name another policy for prompts.
TEST(ServingOptions, HybridAndAutoServePromptsToo) {
  Files files;
  for (const char* policy : {"hybrid", "auto"}) {
    Arguments arguments = small();
    arguments.set("concurrency", "4");
    arguments.set("policy", policy);
    EXPECT_EQ(arguments.config(files, 0).prefill_policy, policy);
    arguments.set("prefill-policy", "even");
    EXPECT_EQ(arguments.config(files, 0).prefill_policy, "even");
    EXPECT_EQ(arguments.config(files, 0).policy, policy);
  }
  Arguments arguments = small();
  arguments.set("concurrency", "4");
  arguments.set("policy", "home");
  EXPECT_EQ(arguments.config(files, 0).prefill_policy, SimulationConfig{}.prefill_policy);
}

TEST(ServingOptions, FaultsNameArguments) {
  EXPECT_EQ(fault_of(small(), "kv-dtype", "fp9"),
            "kv_dtype is 'fp9', must be one of bf16, fp8 (did you mean 'fp8'?)");
  EXPECT_EQ(fault_of(small(), "tp", "0"), "tp is '0', must be a whole number 1..65536");
  EXPECT_EQ(fault_of(small(), "slo-tpot-ms", "-1"),
            "slo_tpot_ms is '-1', must be a number 1e-06..1000000000");
  EXPECT_EQ(fault_of(small(), "concurrency", "4"), "");
  EXPECT_EQ(fault_of(small(), "chunk", "4"),
            "one of rate and concurrency is required, and only one");
  EXPECT_EQ(fault_of(Arguments(), "gpu", "h100"), "model is required");
  EXPECT_EQ(fault_of(small(), "requests", "r.csv"),
            "requests excludes isl, osl, num_requests, rate and concurrency");
  EXPECT_EQ(fault_of(small(), "speed", "9"), "'speed' is no option of a simulation");
  EXPECT_EQ(fault_of(Arguments(as_option), "kv-dtype", "bf16"), "--model is required");
}

TEST(ServingOptions, TheDocsHaveTheTable) {
  const std::string path = std::string(METRO_SOURCE_DIR) + "/docs/simulator-options.md";
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  const std::string table = report::option_table(as_option);
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (std::getenv("METRO_WRITE_DOCS") != nullptr) {
    std::string page = text.str();
    const std::size_t begin = page.find("| option | values |");
    ASSERT_NE(begin, std::string::npos);
    page.replace(begin, page.find("\n\n", begin) + 1 - begin, table);
    std::ofstream(path) << page;
    return;
  }
  EXPECT_NE(text.str().find(fmt::format("\n\n{}\n", table)), std::string::npos)
      << "docs/simulator-options.md lacks this table; METRO_WRITE_DOCS=1 puts it there:\n"
      << table;
}

}  // namespace
}  // namespace metro::serving
