// SPDX-License-Identifier: Apache-2.0
// metro policies: the tables of policies and placements, for people and for programs.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>

#include "cli/lines.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

TEST(CliPolicies, JsonHasARowForEachPolicy) {
  const json result = json::parse(output_of({"policies", "--json"}));
  ASSERT_EQ(result["policies"].size(), policies().size());
  for (std::size_t i = 0; i < policies().size(); ++i) {
    const json& row = result["policies"][i];
    const PolicyInfo& info = policies()[i];
    EXPECT_EQ(row["name"], info.name);
    EXPECT_EQ(row["rule"], info.rule);
    EXPECT_EQ(row["source"], info.source);
    EXPECT_EQ(row["splits"], !row["single_replica"].get<bool>());
    EXPECT_EQ(row["device"], info.device);
    EXPECT_EQ(row["uses_homes"], info.uses_homes);
    EXPECT_EQ(row["uses_shares"], info.uses_shares);
    EXPECT_EQ(row["uses_cost"], info.uses_cost);
    EXPECT_EQ(row["route_us"], info.route_us);
  }
}

// What others may write down of the policies: the words of `needs` are a contract.
TEST(CliPolicies, NeedsAreOneOfThreeWords) {
  const json result = json::parse(output_of({"policies", "--json"}));
  std::map<std::string, std::set<std::string>> by_needs;
  for (const json& row : result["policies"]) by_needs[row["needs"]].insert(row["name"]);
  EXPECT_EQ(by_needs["ids"], (std::set<std::string>{"even", "hybrid"}));
  EXPECT_TRUE(by_needs["bitmap"].contains("optimal"));
  EXPECT_TRUE(by_needs["own-rows"].contains("home"));
  EXPECT_EQ(by_needs.size(), 3U);
}

TEST(CliPolicies, AlgorithmsAreThePlacements) {
  const json result = json::parse(output_of({"policies", "--algorithms", "--json"}));
  ASSERT_EQ(result["algorithms"].size(), placement_algorithms().size());
  for (std::size_t i = 0; i < placement_algorithms().size(); ++i) {
    EXPECT_EQ(result["algorithms"][i]["name"], placement_algorithms()[i].name);
    EXPECT_EQ(result["algorithms"][i]["rule"], placement_algorithms()[i].rule);
    EXPECT_EQ(result["algorithms"][i]["uses_loads"], placement_algorithms()[i].uses_loads);
  }
  EXPECT_FALSE(result.contains("policies"));
}

TEST(CliPolicies, TablesFitATerminal) {
  for (const Line& line : {Line{"policies"}, Line{"policies", "--algorithms"}}) {
    std::istringstream text(output_of(line));
    for (std::string row; std::getline(text, row);) EXPECT_LE(row.size(), 100U) << row;
  }
  const std::string text = output_of({"policies"});
  for (const PolicyInfo& policy : policies()) {
    EXPECT_NE(text.find(policy.rule), std::string::npos) << policy.name;
  }
}

TEST(CliPolicies, TakesOptionsOnly) {
  EXPECT_NE(error_of({"policies", "optimal"}, 2).find("unexpected argument 'optimal'"),
            std::string::npos);
}

}  // namespace
}  // namespace metro::test
