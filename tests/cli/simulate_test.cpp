// SPDX-License-Identifier: Apache-2.0
// metro simulate and sweep, as a user meets them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "cli/lines.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

const Line kServer = {"--model", "gpt-oss-20b", "--gpu", "H100_SXM", "--gpus", "2"};
const Line kRequests = {"--isl", "64", "--osl", "8", "--num-requests", "20", "--concurrency", "4"};
const Line kSimulate = with({"simulate"}, with(kServer, kRequests));

json run_json(const Line& line) { return json::parse(output_of(with(line, {"--json"}))); }

TEST(CliSimulate, SaysWhatWasServed) {
  const json result = run_json(kSimulate);
  EXPECT_EQ(result["format"], "metro-result");
  EXPECT_EQ(result["command"], "simulate");
  EXPECT_EQ(result["evidence"], "simulated");
  EXPECT_EQ(result["fidelity"], "table");
  EXPECT_EQ(result["routing"], "gpt-oss-20b");
  EXPECT_EQ(result["algorithm"], "homed");
  EXPECT_EQ(result["policy"], "optimal");
  EXPECT_EQ(result["prefill_policy"], "shares");
  EXPECT_EQ(result["ep"], 2);
  EXPECT_EQ(result["requests"], json({{"submitted", 20}, {"completed", 20}, {"rejected", 0}}));
  EXPECT_EQ(result["output_tokens"], 160);
  for (const char* times : {"ttft_ms", "tpot_ms", "itl_ms"}) {
    const json& ms = result[times];
    EXPECT_GT(ms["mean"], 0) << times;
    EXPECT_LE(ms["p50"], ms["p90"]) << times;
    EXPECT_LE(ms["p90"], ms["p99"]) << times;
  }
  EXPECT_DOUBLE_EQ(result["output_tokens_per_s_per_gpu"].get<double>() * 2,
                   result["output_tokens_per_s"].get<double>());
  EXPECT_GT(result["total_tokens_per_s"], result["output_tokens_per_s"]);
  EXPECT_GT(result["goodput_requests_per_s"], 0);
  EXPECT_GT(result["kv_use"], 0);
  EXPECT_GE(result["max_activated"], 1);
  double shares = 0;
  for (const auto& [stage, share] : result["stage_share"].items()) shares += share.get<double>();
  EXPECT_NEAR(shares, 1, 1e-9);
  EXPECT_GT(result["stage_share"]["experts"], 0);
  EXPECT_GT(result["simulated_s"], 0);
  EXPECT_GT(result["wall_s"], 0);
}

TEST(CliSimulate, OneSeedOneResult) {
  const auto text = [](const Line& more) {
    json result = run_json(with(kSimulate, more));
    result.erase("wall_s");
    result.erase("seed");
    return result.dump();
  };
  EXPECT_EQ(text({}), text({"--seed", "0"}));
  EXPECT_NE(text({}), text({"--seed", "1"}));
}

TEST(CliSimulate, ServesFiles) {
  const TemporaryFolder folder;
  const std::string requests = folder.write(
      "r.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,3\n0.5,200000,4\n1,50,2\n");
  const json result = run_json(with({"simulate"}, with(kServer, {"--requests", requests})));
  EXPECT_EQ(result["requests"], json({{"submitted", 3}, {"completed", 2}, {"rejected", 1}}));
  EXPECT_EQ(result["inputs"].size(), 1U);
  EXPECT_EQ(result["inputs"][0]["path"], requests);
  EXPECT_GE(result["simulated_s"], 1);
}

TEST(CliSimulate, EveryOptionHasAnEffectOrIsTold) {
  const json plain = run_json(kSimulate);
  const std::vector<Line> changes = {{"--tp", "2"},
                                     {"--ep", "1"},
                                     {"--dtype", "bf16"},
                                     {"--kv-dtype", "fp8"},
                                     {"--experts", "moe-TP"},
                                     {"--dispatch", "all-to-all"},
                                     {"--gpus-per-domain", "1"},
                                     {"--draft-tokens", "2"},
                                     {"--routing", "uniform"},
                                     {"--max-batch", "2"},
                                     {"--chunk", "16"},
                                     {"--disaggregate", "1:1"},
                                     {"--fidelity", "full"},
                                     {"--replication", "1.5"},
                                     {"--engine", "vllm"}};
  for (const Line& change : changes) {
    const json changed = run_json(with(kSimulate, change));
    EXPECT_NE(changed["tpot_ms"], plain["tpot_ms"]) << change[0];
    EXPECT_EQ(changed["requests"]["completed"], 20) << change[0];
  }
}

// Command lines and results of before say "tensor-sharded".
TEST(CliSimulate, TakesTheOldSpellingOfMoeTp) {
  const json now = run_json(with(kSimulate, {"--experts", "moe-TP"}));
  EXPECT_EQ(now["experts"], "moe-TP");
  EXPECT_EQ(run_json(kSimulate)["experts"], "ep");
  const json before = run_json(with(kSimulate, {"--experts", "tensor-sharded"}));
  EXPECT_EQ(before["experts"], "moe-TP");
  EXPECT_EQ(before["tpot_ms"], now["tpot_ms"]);
}

TEST(CliSimulate, WritesATimeline) {
  const TemporaryFolder folder;
  const std::string path = folder.file("t.json");
  run_json(with(kSimulate, {"--perfetto", path, "--perfetto-steps", "2"}));
  const json timeline = json::parse(read_text(path));
  std::set<int> gpus;
  std::set<int> steps;
  for (const json& event : timeline["traceEvents"]) {
    gpus.insert(event["pid"].get<int>());
    if (event["ph"] == "X") steps.insert(event["args"]["step"].get<int>());
  }
  EXPECT_EQ(gpus, (std::set<int>{0, 1}));
  EXPECT_EQ(steps, (std::set<int>{0, 1}));
}

TEST(CliSimulate, FaultsOfTheCommandLine) {
  const auto usage = [](const Line& line) { return error_of(with({"simulate"}, line), 2); };
  const Line half = {"--model", "gpt-oss-20b", "--gpu", "h100"};
  EXPECT_NE(usage(with(half, kRequests)).find("--gpus is required"), std::string::npos);
  EXPECT_NE(usage(with(with(half, {"--gpus", "0"}), kRequests)).find("--gpus is '0'"),
            std::string::npos);
  EXPECT_NE(usage({"--model", "gpt-os-20b", "--gpu", "h100", "--gpus", "2"})
                .find("did you mean 'gpt-oss-20b'?"),
            std::string::npos);
  EXPECT_NE(usage({"--model", "gpt-oss-20b", "--gpu", "h1000", "--gpus", "2"})
                .find("--gpu is 'h1000', must be one of"),
            std::string::npos);
  EXPECT_NE(usage(kServer).find("--requests, or --isl"), std::string::npos);
  EXPECT_NE(usage(with(kServer, {"--isl", "5"})).find("--osl is required"), std::string::npos);
  EXPECT_NE(usage(with(kServer, with(kRequests, {"--rate", "1"}))).find("only one"),
            std::string::npos);
  EXPECT_NE(usage(with(kServer, with(kRequests, {"--requests", "r.csv"})))
                .find("--requests excludes --isl"),
            std::string::npos);
  for (const char* ratio : {"1", "1:", ":1", "0:2", "1:1:1", "x:y", "1:2"}) {
    EXPECT_NE(usage(with(kServer, with(kRequests, {"--disaggregate", ratio})))
                  .find("--disaggregate is '" + std::string(ratio) + "'"),
              std::string::npos)
        << ratio;
  }
  EXPECT_NE(usage(with(kServer, with(kRequests, {"--policy", "best"}))).find("must be one of even"),
            std::string::npos);
  EXPECT_NE(usage(with(kServer, with(kRequests, {"--routing", "best"}))).find("or a trace (.npy)"),
            std::string::npos);
  EXPECT_NE(usage(with(kServer, with(kRequests, {"--tp", "3"}))).find("tp is 3"),
            std::string::npos);
  EXPECT_NE(
      usage(with(kServer, with(kRequests, {"--experts", "tensor-sharded", "--replication", "1.5"})))
          .find("--replication is above 1"),
      std::string::npos);
}

TEST(CliSimulate, FaultsOfFiles) {
  const TemporaryFolder folder;
  const auto input = [&](const Line& line) { return error_of(with({"simulate"}, line), 3); };
  EXPECT_NE(input(with(kServer, {"--requests", "/nowhere/r.csv"})).find("/nowhere/r.csv"),
            std::string::npos);
  const std::string bad = folder.write("bad.csv", "a,b\n1,2\n");
  EXPECT_NE(input(with(kServer, {"--requests", bad})).find("bad.csv: line 1"), std::string::npos);
  EXPECT_NE(input(with({"--model", "no.json", "--gpu", "h100", "--gpus", "2"}, kRequests))
                .find("no.json"),
            std::string::npos);
  const std::string trace = folder.write_trace("t.npy");
  EXPECT_NE(input(with(kServer, with(kRequests, {"--routing", trace})))
                .find("t.npy: num_experts is 8, must be 32 as gpt-oss-20b has"),
            std::string::npos);
}

TEST(CliSimulate, WhatDoesNotFitIsInfeasible) {
  const std::string error = error_of(
      with({"simulate", "--model", "DeepSeek-V3", "--gpu", "h100", "--gpus", "2"}, kRequests), 4);
  EXPECT_NE(error.find("leave no room for a context"), std::string::npos) << error;
}

const Line kSweep = {
    "sweep", "--model",       "gpt-oss-20b", "--gpu",          "h100",         "--gpus",
    "2,4",   "--replication", "1,1.5",       "--policy",       "even,optimal", "--isl",
    "64",    "--osl",         "8",           "--num-requests", "20",           "--concurrency",
    "4"};

json rows_of(const Line& more) { return run_json(with(kSweep, more))["rows"]; }

TEST(CliSweep, RowsAreThoseOfSimulate) {
  const json rows = rows_of({"--jobs", "2"});
  ASSERT_EQ(rows.size(), 8U);
  std::size_t at = 0;
  bool any_best = false;
  for (const char* gpus : {"2", "4"}) {
    for (const char* replication : {"1", "1.5"}) {
      for (const char* policy : {"even", "optimal"}) {
        const json alone =
            run_json(with({"simulate", "--model", "gpt-oss-20b", "--gpu", "h100", "--gpus", gpus,
                           "--replication", replication, "--policy", policy},
                          kRequests));
        const json& row = rows[at++];
        for (const char* field : {"gpus", "replication", "policy", "tpot_ms", "stage_share"}) {
          EXPECT_EQ(row[field], alone[field]) << field;
        }
        any_best = any_best || row["pareto"].get<bool>();
      }
    }
  }
  EXPECT_TRUE(any_best);
}

TEST(CliSweep, GoesOnWhereAKilledRunStopped) {
  const TemporaryFolder folder;
  const std::string journal = folder.file("s.jsonl");
  const json whole = rows_of({"-o", journal});
  const std::string text = read_text(journal);
  std::size_t third = 0;  // after the header and two points
  for (int i = 0; i < 3; ++i) third = text.find('\n', third) + 1;

  // Killed within a line: two points stand, and a change in one shows that it is not run again.
  std::string cut = text.substr(0, third + 40);
  const std::size_t mark = cut.find("gpt-oss-20b\\\"");
  ASSERT_NE(mark, std::string::npos);
  cut.replace(mark, 3, "GPT");
  ASSERT_EQ(folder.write("s.jsonl", cut), journal);
  const json resumed = rows_of({"-o", journal});
  ASSERT_EQ(resumed.size(), whole.size());
  int marked = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    json row = resumed[i];
    if (row["model"] == "GPT-oss-20b") {
      ++marked;
      row["model"] = "gpt-oss-20b";
    }
    EXPECT_EQ(row, whole[i]) << i;
  }
  EXPECT_EQ(marked, 1);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 9) << "a header and 8 points";
  EXPECT_EQ(rows_of({"-o", journal, "--seed", "1"}).size(), 8U) << "other points join the file";
  const std::string both = read_text(journal);
  EXPECT_EQ(std::count(both.begin(), both.end(), '\n'), 17);
}

TEST(CliSweep, AKilledProcessLosesItsCurrentPointOnly) {
  const TemporaryFolder folder;
  const std::string journal = folder.file("s.jsonl");
  Line long_sweep = kSweep;
  long_sweep[16] = "2000";  // --num-requests
  std::string command = std::string("timeout -s KILL 0.4 ") + METRO_BINARY;
  for (const std::string& word : with(long_sweep, {"--jobs", "1", "--fidelity", "full", "-o"})) {
    command += " " + word;
  }
  command += " " + journal + " > /dev/null 2>&1";
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the shell is there to kill.
  EXPECT_NE(std::system(command.c_str()), 0) << "it was killed";
  const json rows = rows_of({"-o", journal});
  EXPECT_EQ(rows, rows_of({}));
}

TEST(CliSweep, PointsThatDoNotFitAreRows) {
  const json result = run_json(
      with({"sweep", "--model", "DeepSeek-V3", "--gpu", "h200", "--gpus", "2,8"}, kRequests));
  EXPECT_NE(result["rows"][0]["error"].get<std::string>().find("no room"), std::string::npos);
  EXPECT_FALSE(result["rows"][0]["pareto"].get<bool>());
  EXPECT_TRUE(result["rows"][1]["pareto"].get<bool>());
}

TEST(CliSweep, FaultsAreToldBeforeAnythingRuns) {
  const TemporaryFolder folder;
  EXPECT_NE(error_of(with(kSweep, {"--tp", "1,x"}), 2).find("--tp is 'x'"), std::string::npos);
  EXPECT_NE(error_of(with(kSweep, {"--tp", "1,"}), 2).find("--tp is ''"), std::string::npos);
  EXPECT_NE(error_of({"sweep", "--gpu", "h100", "--gpus", "2"}, 2).find("--model is required"),
            std::string::npos);
  const std::string other = folder.write("other", "my thesis\n");
  EXPECT_NE(error_of(with(kSweep, {"-o", other}), 3).find("other: line 1"), std::string::npos);
  EXPECT_EQ(read_text(other), "my thesis\n");
}

TEST(CliSweep, RanksOfMpirunShareThePoints) {
#if !METRO_HAVE_MPI
  GTEST_SKIP() << "built without MPI";
#endif
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  if (std::system("mpirun --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "no mpirun";
  const TemporaryFolder folder;
  std::string command = "mpirun --allow-run-as-root --oversubscribe -n 3 ";
  command += METRO_BINARY;
  for (const std::string& word : with(kSweep, {"--json"})) command += " " + word;
  command += " > " + folder.file("out") + " 2> " + folder.file("err");
  // NOLINTNEXTLINE(concurrency-mt-unsafe)
  ASSERT_EQ(std::system(command.c_str()), 0) << read_text(folder.file("err"));
  EXPECT_EQ(json::parse(read_text(folder.file("out")))["rows"], rows_of({}));
}

}  // namespace
}  // namespace metro::test
