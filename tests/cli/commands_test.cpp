// SPDX-License-Identifier: Apache-2.0
// What each command prints and writes when all is well.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"
#include "metro/io.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

Outcome run_ok(const std::vector<std::string>& arguments) {
  Outcome outcome = run_metro(arguments);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return outcome;
}

void expect_envelope(const json& result, const std::string& command, const std::string& evidence) {
  EXPECT_EQ(result["format"], "metro-result");
  EXPECT_EQ(result["version"], 1);
  EXPECT_EQ(result["command"], command);
  EXPECT_EQ(result["evidence"], evidence);
}

TEST(Cli, HelpAndVersionEverywhere) {
  const std::vector<std::vector<std::string>> commands = {
      {}, {"place"}, {"route"}, {"trace"}, {"compare"}, {"bench"}, {"bench", "route"}};
  for (std::vector<std::string> command : commands) {
    SCOPED_TRACE(command.empty() ? "metro" : command.back());
    command.emplace_back("--help");
    EXPECT_NE(run_ok(command).out.find("--help"), std::string::npos);
    command.back() = "--version";
    EXPECT_TRUE(run_ok(command).out.starts_with("metro "));
  }
}

TEST(Cli, HelpTellsANewcomerWhatToType) {
  const std::string top = run_ok({"--help"}).out;
  for (const char* command : {"place", "route", "compare", "bench"}) {
    EXPECT_NE(top.find(command), std::string::npos) << command;
  }
  const std::string route = run_ok({"route", "--help"}).out;
  for (const char* word :
       {"--placement", "--topk", "optimal", "metro-paper", "Example: metro route", "REQUIRED"}) {
    EXPECT_NE(route.find(word), std::string::npos) << word;
  }
}

TEST(Cli, PlacePrintsAndWritesThePlacement) {
  const TemporaryFolder folder;
  const std::string loads =
      folder.write("loads.json", R"({"loads": [[8, 1, 1, 1], [1, 1, 1, 8]]})");
  for (const char* algorithm : {"eplb", "homed", "contiguous"}) {
    SCOPED_TRACE(algorithm);
    const std::string file = folder.write("p.json", "an older file");
    const std::vector<std::string> arguments = {"place",   "--loads",    loads, "--gpus",
                                                "2",       "--replicas", "6",   "--algorithm",
                                                algorithm, "-o",         file};
    EXPECT_NE(run_ok(arguments).out.find(algorithm), std::string::npos);
    const Placement placement = io::read_placement(file);
    EXPECT_EQ(placement.num_gpus, 2);
    ASSERT_EQ(placement.layers.size(), 2U);
    EXPECT_EQ(placement.layers[0].num_replicas(), 6);

    auto with_json = arguments;
    with_json.emplace_back("--json");
    const std::string out = run_ok(with_json).out;
    EXPECT_EQ(out, read_text(file));
    EXPECT_EQ(json::parse(out)["format"], "metro-placement");
  }
  EXPECT_EQ(folder.names().size(), 2U) << "a temporary file was left behind";
}

TEST(Cli, PlaceOverGroups) {
  const TemporaryFolder folder;
  const std::string loads = folder.write("loads.json", R"({"loads": [[8, 1, 1, 1]]})");
  const auto place = [&](const char* gpus, const char* ep, const char* replicas) {
    return run_metro({"place", "--loads", loads, "--gpus", gpus, "--ep", ep, "--replicas", replicas,
                      "--algorithm", "homed", "--json"});
  };
  const auto on = [&](const char* gpus) {
    return run_ok({"place", "--loads", loads, "--gpus", gpus, "--replicas", "6", "--algorithm",
                   "homed", "--json"})
        .out;
  };
  json groups = json::parse(place("8", "2", "6").out);
  EXPECT_EQ(groups["version"], 2);
  EXPECT_EQ(groups["shards"], 4);
  groups.erase("shards");
  groups["version"] = 1;
  EXPECT_EQ(groups, json::parse(on("2"))) << "placed as on that many GPUs";
  EXPECT_EQ(place("2", "2", "6").out, on("2")) << "one GPU a group: nothing is sharded";
  EXPECT_EQ(place("8", "3", "6").exit_code, 2);
  EXPECT_EQ(place("2", "4", "8").exit_code, 2);
  EXPECT_EQ(place("8", "0", "8").exit_code, 2);
  EXPECT_EQ(place("8", "4", "6").exit_code, 4) << "6 replicas on 4 groups";
  EXPECT_EQ(place("8", "1", "6").exit_code, 4) << "replicas on one group";
  EXPECT_EQ(place("8", "1", "4").exit_code, 0);
}

class CliRoute : public testing::Test {
 protected:
  std::vector<std::string> arguments(const std::string& topk, const std::string& policy) {
    return {"route",
            "--placement",
            folder_.write("p.json", kPlacement),
            "--topk",
            folder_.write("topk.json", topk),
            "--policy",
            policy,
            "--json"};
  }

  /// Expert 0 on both GPUs, 1 and 2 on GPU 0, 3 on GPU 1.
  static constexpr const char* kPlacement =
      R"({"format": "metro-placement", "version": 1, "num_experts": 4, "num_gpus": 2,
          "layers": [{"replica_to_expert": [0, 1, 2, 3, 0], "replica_to_gpu": [0, 0, 0, 1, 1]}]})";
  TemporaryFolder folder_;
};

TEST_F(CliRoute, TellsEveryReplicaAndWhatEachGpuGets) {
  const json result = json::parse(run_ok(arguments("[[0, 1], [0, 2], [3, -1]]", "optimal")).out);
  expect_envelope(result, "route", "simulated");
  EXPECT_EQ(result["seed"], 0);
  EXPECT_EQ(result["inputs"].size(), 2U);
  EXPECT_EQ(result["inputs"][1]["sha256"].get<std::string>().size(), 64U);
  EXPECT_EQ(result["max_activated"], 2);
  EXPECT_EQ(result["activated_per_gpu"], json({2, 2}));
  EXPECT_EQ(result["tokens_per_gpu"], json({2, 3}));
  EXPECT_EQ(result["replica_ids"], json::parse("[[4, 1], [4, 2], [3, -1]]"));
}

/// Two groups of four GPUs: routed as two GPUs, of which each reads a quarter of its experts.
TEST_F(CliRoute, GroupsReadAPartOfTheirExperts) {
  std::vector<std::string> line = arguments("[[0, 1], [0, 2], [3, -1]]", "optimal");
  std::string text = kPlacement;
  text.replace(text.find("\"version\": 1"), 12, "\"version\": 2, \"shards\": 4");
  EXPECT_EQ(folder_.write("p.json", text), line[2]);
  const json result = json::parse(run_ok(line).out);
  EXPECT_EQ(result["shards"], 4);
  EXPECT_EQ(result["max_activated"], 0.5);
  EXPECT_EQ(result["activated_per_gpu"], json({2, 2}));
  line.pop_back();  // --json
  const std::string table = run_ok(line).out;
  EXPECT_NE(table.find("max activated 0.5"), std::string::npos) << table;
  EXPECT_NE(table.find("group"), std::string::npos);
}

TEST_F(CliRoute, EvenUsesAllReplicas) {
  const json result = json::parse(run_ok(arguments("[[0], [0], [0]]", "even")).out);
  EXPECT_EQ(result["replica_ids"], json::parse("[[0], [4], [0]]"));
  EXPECT_EQ(result["activated_per_gpu"], json({1, 1}));
}

TEST_F(CliRoute, AnEmptyBatchActivatesNothing) {
  const json result = json::parse(run_ok(arguments("[]", "optimal")).out);
  EXPECT_EQ(result["max_activated"], 0);
  EXPECT_EQ(result["activated_per_gpu"], json({0, 0}));
  EXPECT_EQ(result["tokens_per_gpu"], json({0, 0}));
  EXPECT_EQ(result["replica_ids"], json::array());
}

TEST_F(CliRoute, TheSeedMovesRandomAlone) {
  const std::string topk = "[[0], [0], [0], [0], [0], [0], [0], [0], [0], [0], [0], [0], [0], [0]]";
  const auto ids = [&](const std::string& policy, const std::string& seed) {
    auto line = arguments(topk, policy);
    line.insert(line.end(), {"--seed", seed});
    return json::parse(run_ok(line).out)["replica_ids"];
  };
  EXPECT_EQ(ids("random", "1"), ids("random", "1"));
  EXPECT_NE(ids("random", "1"), ids("random", "18446744073709551615"));
  EXPECT_EQ(ids("optimal", "1"), ids("optimal", "2"));
}

TEST_F(CliRoute, WithoutJsonATable) {
  auto line = arguments("[[0, 1]]", "metro");
  line.pop_back();
  EXPECT_NE(run_ok(line).out.find("max activated"), std::string::npos);
}

TEST_F(CliRoute, HybridTellsItsTimesAndTheirBound) {
  const std::string cost =
      folder_.write("cost.json", R"({"phi": [0, 10, 10], "beyond": 4, "base": 1})");
  auto line = arguments("[[0], [0], [0], [0], [0], [0], [1], [3]]", "hybrid");
  line.insert(line.end(), {"--cost", cost});
  const json result = json::parse(run_ok(line).out);
  EXPECT_EQ(result["inputs"].size(), 3U);
  // Expert 0's six tokens in halves: 1 + phi(3) + phi(1) on each GPU.
  EXPECT_EQ(result["modelled_us"], json({25.0, 25.0}));
  EXPECT_NEAR(result["bound_us"].get<double>(), 25, 4);
  EXPECT_LE(result["bound_us"], 25.0);
  EXPECT_EQ(result["tokens_per_gpu"], json({4, 4}));
  EXPECT_EQ(result["replica_ids"], json::parse("[[0], [0], [0], [4], [4], [4], [1], [3]]"));

  const json home = json::parse(run_ok(arguments("[[0], [1]]", "home")).out);
  EXPECT_FALSE(home.contains("modelled_us")) << "nobody asked for a price";
  auto priced = arguments("[[0], [1], [-1]]", "home");
  priced.insert(priced.end(), {"--cost", cost});
  const json result_of_home = json::parse(run_ok(priced).out);
  EXPECT_EQ(result_of_home["modelled_us"].size(), 2U);
  EXPECT_EQ(result_of_home["replica_ids"][1], home["replica_ids"][1]);
}

TEST_F(CliRoute, HybridTakesAnyBatchAndAnyCost) {
  for (const char* text : {R"({"phi": [0], "beyond": 0})", R"({"phi": [0], "beyond": 1e-300})",
                           R"({"phi": [0, 1e308], "beyond": 1e308, "base": 1e308})"}) {
    SCOPED_TRACE(text);
    const std::string cost = folder_.write("cost.json", text);
    for (const char* topk : {"[]", "[[-1, -1]]", "[[0, 0, 1], [2, 3, -1], [0, 1, 2]]"}) {
      auto line = arguments(topk, "hybrid");
      line.insert(line.end(), {"--cost", cost});
      const json result = json::parse(run_ok(line).out);
      ASSERT_EQ(result["modelled_us"].size(), 2U);
      const double slowest =
          std::max(result["modelled_us"][0].get<double>(), result["modelled_us"][1].get<double>());
      EXPECT_LE(result["bound_us"].get<double>(), slowest);
    }
  }
  const json standard = json::parse(run_ok(arguments("[]", "hybrid")).out);
  EXPECT_EQ(standard["modelled_us"], json({13.6884, 13.6884}))
      << "the base of an H100's DeepSeek-V3";
}

TEST_F(CliRoute, ACostThatIsNoneIsOneLine) {
  const std::string bad = folder_.write("bad.json", R"({"phi": [0, 2, 1], "beyond": 0})");
  const auto with_cost = [&](const std::vector<std::string>& more) {
    auto line = arguments("[[0]]", "hybrid");
    line.insert(line.end(), more.begin(), more.end());
    return run_metro(line);
  };
  const auto expect = [](const Outcome& outcome, int exit_code, const std::string& line) {
    EXPECT_EQ(outcome.exit_code, exit_code);
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find(line), std::string::npos) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  };
  expect(with_cost({"--cost", bad}), 3, bad + ": phi[2] is 1, must be at least phi[1], which is 2");
  expect(with_cost({"--cost", folder_.file("none.json")}), 3, "none.json");
  expect(with_cost({"--shape", "7168x2048"}), 2, "--shape goes with --cost only");
  expect(with_cost({"--dtype", "bf16"}), 2, "--dtype goes with --cost only");
  expect(with_cost({"--cost", bad, "--dtype", "bf17"}), 2, "bf17");
  expect(with_cost({"--cost", bad, "--shape", "7168"}), 2, "7168x2048");
}

TEST(Cli, BenchRouteRacesAllPolicies) {
  const std::string out =
      run_ok({"bench", "route", "--experts", "16", "--gpus", "4,2", "--tokens", "8", "--topk", "2",
              "--rounds", "2", "--policy", "metro,optimal", "--json"})
          .out;
  const json result = json::parse(out);
  expect_envelope(result, "bench route", "measured");
  int hash_rows = 0;
  for (const json& row : result["rows"]) {
    EXPECT_GT(row["median_ns"].get<double>(), 0);
    if (row["policy"] == "hash") {
      ++hash_rows;
      EXPECT_EQ(row["vs_hash"], 1.0);
    }
  }
  EXPECT_EQ(hash_rows, 2);
}

TEST(Cli, BenchRouteOnATrace) {
  const TemporaryFolder folder;
  const std::string trace = folder.write_trace("t.npy");
  const json result = json::parse(run_ok({"bench", "route", "--trace", trace, "--gpus", "2",
                                          "--tokens", "16", "--rounds", "1", "--json"})
                                      .out);
  EXPECT_EQ(result["inputs"].size(), 2U);
  EXPECT_EQ(result["rows"][0]["experts"], 8);
  EXPECT_EQ(result["rows"][0]["topk"], 2);
}

}  // namespace
}  // namespace metro::test
