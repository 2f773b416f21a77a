// SPDX-License-Identifier: Apache-2.0
// metro compare: rows, order, what they mean, and the report page.
#include <gtest/gtest.h>

#include <algorithm>
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

TEST_F(CliCompare, ACostPricesEveryRow) {
  const std::string cost = folder_.write("cost.json", R"({"phi": [0, 7], "beyond": 3, "base": 2})");
  const std::vector<std::string> more = {"--policy", "hybrid,home,optimal,even", "--json"};
  auto line = arguments(more);
  EXPECT_FALSE(json::parse(run_ok(line))["rows"][0].contains("modelled"));
  line.insert(line.end(), {"--cost", cost});
  const json result = json::parse(run_ok(line));
  EXPECT_EQ(result["inputs"].size(), 3U);
  const json& rows = result["rows"];
  ASSERT_EQ(rows.size() % 4, 0U);
  for (std::size_t i = 0; i < rows.size(); i += 4) {
    const double hybrid = rows[i]["modelled"];
    EXPECT_GT(hybrid, 2);
    EXPECT_LE(rows[i]["modelled_bound"], hybrid);
    for (std::size_t j = 1; j < 4; ++j) EXPECT_LE(hybrid, rows[i + j]["modelled"].get<double>());
    if (rows[i]["replication"] == 1.0) {
      EXPECT_EQ(rows[i]["modelled"], rows[i + 1]["modelled"]);
    }
  }
  EXPECT_EQ(run_ok(line), run_ok(line)) << "sums in the order of layers";
  line.erase(std::find(line.begin(), line.end(), "--json"));
  EXPECT_NE(run_ok(line).find("Modelled us of the slowest GPU"), std::string::npos);
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

/// What policies did on N GPUs is what they do on N groups: only the bytes of a GPU differ.
TEST_F(CliCompare, GroupsAreRoutedAsThatManyGpus) {
  const auto rows_of = [&](const std::vector<std::string>& gpus, const char* tokens) {
    std::vector<std::string> line = {"compare", "--trace",     trace_,       "--replication",
                                     "1,1.5",   "--batches",   "5",          "--tokens",
                                     tokens,    "--algorithm", "eplb,homed", "--json"};
    line.insert(line.end(), gpus.begin(), gpus.end());
    return json::parse(run_ok(line))["rows"];
  };
  const json sharded = rows_of({"--gpus", "8", "--ep", "4,8,2"}, "8,3");
  const json whole = rows_of({"--gpus", "4,8,2"}, "8,3");
  ASSERT_EQ(sharded.size(), whole.size());
  const std::size_t per_layout = sharded.size() / 6;  // two algorithms, three layouts
  for (std::size_t i = 0; i < sharded.size(); ++i) {
    const json& row = sharded[i];
    const json& same = whole[i];
    const int shards = 8 / row["ep"].get<int>();
    EXPECT_EQ(row["gpus"], 8);
    EXPECT_EQ(row["ep"], same["gpus"]);
    for (const char* key : {"policy", "tokens", "replication", "replicas", "max_tokens", "vs_even",
                            "vs_optimal", "active_experts", "token_imbalance"}) {
      EXPECT_EQ(row[key], same[key]) << key;
    }
    for (const char* key : {"max_activated", "activated_total"}) {
      EXPECT_DOUBLE_EQ(row[key].get<double>() * shards, same[key]) << key;
    }
    // EPLB off and "vs_ep" look at the same grid point of the layout that does not shard.
    const json& on_8 = sharded[i % per_layout + (i / per_layout / 3 * 3 + 1) * per_layout];
    ASSERT_EQ(on_8["ep"], 8);
    ASSERT_EQ(on_8["policy"], row["policy"]);
    EXPECT_EQ(row["no_replication"], on_8["no_replication"]);
    const double activated = row["max_activated"];
    EXPECT_DOUBLE_EQ(row["vs_no_replication"], activated / row["no_replication"].get<double>());
    EXPECT_DOUBLE_EQ(row["vs_ep"], activated / on_8["max_activated"].get<double>());
  }
}

TEST_F(CliCompare, OneGroupReadsASliceOfEveryActiveExpert) {
  const json result = json::parse(
      run_ok({"compare", "--trace", trace_, "--gpus", "8,4", "--ep", "1,4", "--replication", "1",
              "--tokens-per-gpu", "2", "--policy", "optimal,even", "--json"}));
  ASSERT_EQ(result["rows"].size(), 8U);
  for (const json& row : result["rows"]) {
    EXPECT_EQ(row["tokens"], 2 * row["gpus"].get<int>()) << "all GPUs count, not the groups";
    EXPECT_EQ(row["tokens_per_gpu"], 2);
    if (row["ep"] != 1) continue;
    EXPECT_EQ(row["max_activated"], row["tensor_sharded"]);
    EXPECT_EQ(row["activated_total"], row["tensor_sharded"]);
    EXPECT_EQ(row["replicas"], 8);
  }
}

TEST_F(CliCompare, RowsHaveGroupsOnlyWhereTheyWereAskedFor) {
  const std::string table = run_ok(arguments());
  EXPECT_EQ(table.find("EP  "), std::string::npos);
  const json plain = json::parse(run_ok(arguments({"--json"})))["rows"][0];
  EXPECT_FALSE(plain.contains("ep") || plain.contains("vs_ep"));
  json same = json::parse(run_ok(arguments({"--ep", "2", "--json"})))["rows"].back();
  EXPECT_EQ(same["ep"], 2);
  EXPECT_EQ(same["vs_ep"], 1.0);
  same.erase("ep");
  same.erase("vs_ep");
  EXPECT_EQ(same, json::parse(run_ok(arguments({"--json"})))["rows"].back());
  EXPECT_NE(run_ok(arguments({"--ep", "2"})).find("GPUs  EP  replication"), std::string::npos);
}

TEST_F(CliCompare, GroupsDivideAllGpus) {
  const auto outcome_of = [&](const char* gpus, const char* ep, const char* replication) {
    return run_metro({"compare", "--trace", trace_, "--gpus", gpus, "--ep", ep, "--replication",
                      replication, "--tokens", "8", "--json"});
  };
  struct Case {
    const char* gpus;
    const char* ep;
    const char* replication;
    int exit_code;
    const char* said;
  };
  for (const Case& wrong : {
           Case{"8", "3", "1", 2, "ep is 3, must divide gpus, which is 8"},
           Case{"4", "8", "1", 2, "ep is 8, must divide gpus, which is 4"},
           Case{"8,4", "4,8", "1", 2, "ep is 8, must divide gpus, which is 4"},
           Case{"8,6", "2,4", "1", 2, "ep is 4, must divide gpus, which is 6"},
           Case{"8", "0", "1", 2, "--ep"},
           Case{"8", "-1", "1", 2, "--ep"},
           Case{"8", "2,", "1", 2, "--ep"},
           Case{"8", "x", "1", 2, "--ep"},
           Case{"8", "1", "1.5", 4, "on 8 GPUs in 1 group with 12 replicas"},
           Case{"8", "2,1", "1,1.5", 4, "must be 8"},
           Case{"1", "1", "1.5", 4, "must be 8"},
       }) {
    const Outcome outcome = outcome_of(wrong.gpus, wrong.ep, wrong.replication);
    EXPECT_EQ(outcome.exit_code, wrong.exit_code) << wrong.gpus << " " << wrong.ep;
    EXPECT_NE(outcome.err.find(wrong.said), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
  // The command line alone shows it: no file is looked at.
  EXPECT_EQ(run_metro({"compare", "--trace", "none.npy", "--gpus", "8", "--ep", "3",
                       "--replication", "1", "--tokens", "8"})
                .exit_code,
            2);
  // Two groups hold each expert at most twice without repeating one on a GPU.
  const Outcome full = run_metro({"compare", "--trace", trace_, "--gpus", "8", "--ep", "2",
                                  "--replication", "3", "--tokens", "8", "--algorithm", "homed"});
  EXPECT_EQ(full.exit_code, 4) << full.err;
  EXPECT_NE(full.err.find("in 2 groups"), std::string::npos) << full.err;
}

TEST_F(CliCompare, ThePageHasTheGroups) {
  const std::string page_path = folder_.file("page.html");
  run_ok({"compare", "--trace", trace_, "--gpus", "4,2", "--ep", "2,1", "--replication", "1",
          "--tokens", "8", "--html", page_path});
  const std::string page = read_text(page_path);
  EXPECT_NE(page.find("--gpus 4,2 --ep 2,1"), std::string::npos) << "made again by";
  EXPECT_NE(page.find("\"4, EP 2\""), std::string::npos);
  EXPECT_NE(page.find("4 GPUs, EP 2"), std::string::npos) << "the map's title";
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
