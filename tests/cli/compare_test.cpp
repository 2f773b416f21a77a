// SPDX-License-Identifier: Apache-2.0
// metro compare: rows, order, what they mean, and the report page.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

class CliCompare : public testing::Test {
 protected:
  std::vector<std::string> arguments(const std::vector<std::string>& more = {}) {
    std::vector<std::string> all = {"compare", "--trace",       trace_,  "--gpus",
                                    "4,2",     "--replication", "1,1.5", "--tokens",
                                    "8,1",     "--batches",     "4"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static std::string run_ok(const std::vector<std::string>& line) {
    const Outcome outcome = run_metro(line);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.out;
  }

  TemporaryFolder folder_;
  std::string trace_ = folder_.write_trace("t.npy");
};

TEST_F(CliCompare, RowsFollowTheOrderOfTheLists) {
  const json result = json::parse(run_ok(arguments({"--policy", "optimal,even", "--json"})));
  EXPECT_EQ(result["format"], "metro-result");
  EXPECT_EQ(result["command"], "compare");
  EXPECT_EQ(result["evidence"], "simulated");
  EXPECT_EQ(result["inputs"].size(), 2U) << "the trace and its .json";
  std::vector<json> points;
  for (const json& row : result["rows"]) {
    points.push_back({row["gpus"], row["replication"], row["tokens"], row["policy"]});
  }
  std::vector<json> expected;
  for (const int gpus : {4, 2}) {
    for (const double replication : {1.0, 1.5}) {
      for (const int tokens : {8, 1}) {
        for (const char* policy : {"optimal", "even"}) {
          expected.push_back({gpus, replication, tokens, policy});
        }
      }
    }
  }
  EXPECT_EQ(points, expected);
}

TEST_F(CliCompare, RatiosAreOfTheMeans) {
  const json result = json::parse(run_ok(arguments({"--json"})));
  const json& rows = result["rows"];
  ASSERT_EQ(rows.size() % 8, 0U);
  const std::size_t per_point = rows.size() / 8;
  for (std::size_t first = 0; first < rows.size(); first += per_point) {
    const auto of = [&](const std::string& policy) -> const json& {
      for (std::size_t i = 0; i < per_point; ++i) {
        if (rows[first + i]["policy"] == policy) return rows[first + i];
      }
      throw std::runtime_error("no row of " + policy);
    };
    for (std::size_t i = 0; i < per_point; ++i) {
      const json& row = rows[first + i];
      const double activated = row["max_activated"];
      EXPECT_DOUBLE_EQ(row["vs_even"], activated / of("even")["max_activated"].get<double>());
      EXPECT_DOUBLE_EQ(row["vs_optimal"], activated / of("optimal")["max_activated"].get<double>());
      EXPECT_DOUBLE_EQ(row["vs_no_replication"], activated / row["no_replication"].get<double>());
      EXPECT_GE(row["vs_optimal"], 1.0);
      EXPECT_GE(row["activated_total"], row["active_experts"]);
      EXPECT_EQ(row["replicas"], row["replication"] == 1.0 ? 8 : 12);
      if (row["replication"] == 1.0) {
        EXPECT_EQ(row["vs_no_replication"], 1.0);
      }
    }
  }
}

TEST_F(CliCompare, ARowDoesNotDependOnTheOtherOptions) {
  const json all = json::parse(run_ok(arguments({"--json"})));
  const json one =
      json::parse(run_ok({"compare", "--trace", trace_, "--gpus", "2", "--replication", "1.5",
                          "--tokens", "8", "--batches", "4", "--policy", "random", "--json"}));
  ASSERT_EQ(one["rows"].size(), 1U);
  int found = 0;
  for (const json& row : all["rows"]) found += row == one["rows"][0] ? 1 : 0;
  EXPECT_EQ(found, 1);
}

TEST_F(CliCompare, TheSeedDrawsOtherBatches) {
  const auto rows = [&](const std::string& seed) {
    return json::parse(run_ok(arguments({"--seed", seed, "--json"})))["rows"];
  };
  EXPECT_EQ(rows("7"), rows("7"));
  EXPECT_NE(rows("7"), rows("8"));
}

TEST_F(CliCompare, TokensPerGpuScaleWithTheGpus) {
  const json result = json::parse(
      run_ok({"compare", "--trace", trace_, "--gpus", "2,4", "--replication", "1.5",
              "--tokens-per-gpu", "3", "--policy", "optimal", "--batches", "2", "--json"}));
  EXPECT_EQ(result["rows"][0]["tokens"], 6);
  EXPECT_EQ(result["rows"][1]["tokens"], 12);
  EXPECT_EQ(result["rows"][1]["tokens_per_gpu"], 3);
}

TEST_F(CliCompare, TheWholeSecondHalfIsABatch) {
  run_ok({"compare", "--trace", trace_, "--gpus", "2", "--replication", "1", "--tokens", "64"});
}

TEST_F(CliCompare, ExpertsThatGpusDoNotDivide) {
  const json result = json::parse(run_ok({"compare", "--trace", trace_, "--gpus", "3,16",
                                          "--replication", "1,1.5", "--tokens", "8", "--json"}));
  EXPECT_EQ(result["rows"][0]["replicas"], 9);
  for (const json& row : result["rows"]) {
    if (row["policy"] == "home") {
      EXPECT_GT(row["vs_no_replication"], 0.0);
    }
  }
}

TEST_F(CliCompare, SeveralTracesAndPlacementsInOneTable) {
  const std::string other = folder_.write_trace("other.npy", 256);
  const json result = json::parse(run_ok(
      arguments({"--trace", other, "--algorithm", "eplb,homed", "--policy", "optimal", "--json"})));
  EXPECT_EQ(result["inputs"].size(), 4U);
  ASSERT_EQ(result["rows"].size(), 2U * 2 * 8);
  EXPECT_EQ(result["rows"][0]["algorithm"], "eplb");
  EXPECT_EQ(result["rows"][31]["trace"], other);
  const std::string table = run_ok(arguments({"--trace", other, "--algorithm", "eplb,homed"}));
  EXPECT_NE(table.find("homed"), std::string::npos);
  EXPECT_NE(table.find("other.npy"), std::string::npos);
}

TEST_F(CliCompare, ThePageIsWholeAndEscaped) {
  const std::string evil = folder_.write_trace("<script>alert(1)<script>.npy");
  const std::string page_path = folder_.file("page.html");
  run_ok({"compare", "--trace", evil, "--gpus", "2", "--replication", "1.5", "--tokens", "8",
          "--html", page_path});
  const std::string page = read_text(page_path);
  EXPECT_TRUE(page.starts_with("<!doctype html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  EXPECT_EQ(page.find("<script>alert(1)"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)"), std::string::npos);
  EXPECT_NE(page.find("Never-worse map"), std::string::npos);
  EXPECT_NE(page.find("simulated"), std::string::npos);
  for (const char* outside : {" src=", "<link", "@import", "url("}) {
    EXPECT_EQ(page.find(outside), std::string::npos) << "the page must work offline: " << outside;
  }
}

TEST_F(CliCompare, TheSamePageEveryTime) {
  const auto page = [&](const std::string& name) {
    const std::string file = folder_.file(name);
    run_ok(arguments({"--html", file}));
    return read_text(file);
  };
  EXPECT_EQ(page("a.html"), page("b.html"));
}

}  // namespace
}  // namespace metro::test
