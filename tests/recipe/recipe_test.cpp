// SPDX-License-Identifier: Apache-2.0
// The program with one policy more, added by HACKING.md's recipe: what each command makes of it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "cli/lines.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

json run_json(const Line& line) { return json::parse(output_of(with(line, {"--json"}))); }

/// The rows of a policy.
std::vector<json> rows_of(const json& result, const std::string& policy) {
  std::vector<json> rows;
  for (const json& row : result["rows"]) {
    if (row["policy"] == policy) rows.push_back(row);
  }
  return rows;
}

const Line kServer = {"--model", "gpt-oss-20b", "--gpu", "H100_SXM", "--gpus", "4"};
const Line kRequests = {"--isl", "64", "--osl", "8", "--num-requests", "20", "--concurrency", "8"};
const Line kServe = with(kServer, kRequests);

TEST(Recipe, PoliciesListsIt) {
  const json policies = run_json({"policies"})["policies"];
  const json& last = policies.back();
  EXPECT_EQ(last["name"], "last");
  EXPECT_EQ(last["needs"], "own-rows");
  EXPECT_FALSE(last["splits"].get<bool>());
  EXPECT_FALSE(last["device"].get<bool>());
  EXPECT_NE(output_of({"policies"}).find("each expert's last replica"), std::string::npos);
}

TEST(Recipe, HelpNamesIt) {
  for (const Line& command :
       {Line{"route"}, Line{"compare"}, Line{"simulate"}, Line{"sweep"}, Line{"bench", "route"}}) {
    EXPECT_NE(output_of(with(command, {"--help"})).find("last"), std::string::npos)
        << command.front();
  }
}

TEST(Recipe, RouteUsesIt) {
  const TemporaryFolder folder;
  const std::string placement =
      folder.write("p.json",
                   R"({"format": "metro-placement", "version": 1, "num_experts": 2, "num_gpus": 2,
          "layers": [{"replica_to_expert": [0, 1, 1, 0]}]})");
  const std::string topk = folder.write("t.json", "[[0, 1], [1, -1]]");
  const json result =
      run_json({"route", "--placement", placement, "--topk", topk, "--policy", "last"});
  EXPECT_EQ(result["replica_ids"], json({{3, 2}, {2, -1}}));
}

TEST(Recipe, CompareReplaysIt) {
  const TemporaryFolder folder;
  const json result = run_json({"compare", "--trace", folder.write_trace("t.npy"), "--gpus", "4",
                                "--replication", "1.5", "--tokens", "8", "--batches", "4"});
  ASSERT_EQ(rows_of(result, "last").size(), 1U) << "all policies are the default";
  EXPECT_GE(rows_of(result, "last")[0]["vs_optimal"], 1);
}

// Its row's 500 us a layer are most of a step.
TEST(Recipe, SimulatePricesIt) {
  const Line line = with({"simulate", "--replication", "1.5", "--dispatch", "all-to-all"}, kServe);
  const json last = run_json(with(line, {"--policy", "last", "--prefill-policy", "last"}));
  EXPECT_EQ(last["policy"], "last");
  EXPECT_EQ(last["prefill_policy"], "last");
  EXPECT_GT(last["stage_share"]["route"], 0.3);
  EXPECT_EQ(last["stage_share"].value("exchange", 0.0), 0) << "its own rows are all it needs";
}

TEST(Recipe, SweepTakesIt) {
  const json result =
      run_json(with({"sweep", "--replication", "1.5", "--policy", "last,optimal"}, kServe));
  ASSERT_EQ(rows_of(result, "last").size(), 1U);
  EXPECT_FALSE(rows_of(result, "last")[0].contains("error"));
  EXPECT_GT(rows_of(result, "last")[0]["tpot_ms"], rows_of(result, "optimal")[0]["tpot_ms"]);
}

TEST(Recipe, BenchRouteTimesIt) {
  const json result = run_json({"bench", "route", "--experts", "16", "--gpus", "4", "--tokens", "8",
                                "--topk", "2", "--rounds", "2"});
  ASSERT_EQ(rows_of(result, "last").size(), 1U) << "all policies are the default";
  EXPECT_GT(rows_of(result, "last")[0]["median_ns"], 0);
}

// Both ways of sending tokens; what the policy needs of other ranks comes from its row.
TEST(Recipe, BenchLayerRunsIt) {
  for (const char* dispatch : {"all-gather", "all-to-all"}) {
    SCOPED_TRACE(dispatch);
    const json result = run_json({"bench", "layer", "--hidden", "64", "--intermediate", "32",
                                  "--virtual-gpus", "2", "--tokens-per-gpu", "2", "--batches", "1",
                                  "--repeats", "1", "--weight-gb", "0.01", "--dispatch", dispatch});
    ASSERT_EQ(rows_of(result, "last").size(), 1U) << "headline policies are the default";
    EXPECT_GT(rows_of(result, "last")[0]["layer_us"], 0);
  }
}

}  // namespace
}  // namespace metro::test
