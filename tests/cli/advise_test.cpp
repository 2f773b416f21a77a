// SPDX-License-Identifier: Apache-2.0
// metro advise, as a user meets it.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/lines.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

const Line kServer = {"--model", "gpt-oss-20b", "--gpu", "h100", "--gpus", "4"};
const Line kRequests = {"--isl", "32", "--osl", "16", "--num-requests", "16", "--concurrency", "8"};
const Line kAdvise = with(with({"advise"}, kServer), with(kRequests, {"--replication", "1.25"}));

std::string usage_error(const Line& line, int exit_code = 2) { return error_of(line, exit_code); }

json run_json(const Line& line) { return json::parse(output_of(with(line, {"--json"}))); }

TEST(CliAdvise, HasTheAdviceAndTheTableBehindIt) {
  const json result = run_json(kAdvise);
  EXPECT_EQ(result["format"], "metro-result");
  EXPECT_EQ(result["command"], "advise");
  EXPECT_EQ(result["evidence"], "simulated");
  EXPECT_EQ(result["model"], "gpt-oss-20b");
  EXPECT_FALSE(result.contains("policy")) << "rows vary it";
  EXPECT_GT(result["wall_s"], 0);
  const json& rows = result["rows"];
  std::vector<std::string> names;
  for (const json& row : rows) names.push_back(row["candidate"].get<std::string>());
  EXPECT_EQ(names, (Line{"EPLB off", "moe-TP", "eplb+even", "eplb+hash", "homed+home",
                         "homed+metro-paper", "homed+optimal", "s=2", "s=2 homed+optimal"}));

  const json& advice = result["advice"];
  const json& chosen = rows[advice["row"].get<std::size_t>()];
  EXPECT_EQ(advice["replicate"], chosen["replication"].get<double>() > 1);
  EXPECT_EQ(advice["replication"], chosen["replication"]);
  EXPECT_EQ(advice["experts"], chosen["experts"]);
  EXPECT_EQ(advice["kv_cost_gb_per_gpu"], chosen["kv_cost_gb_per_gpu"]);
  EXPECT_EQ(advice["tpot_ms_of_90_pct"]["advised"], chosen["tpot_ms"]["p90"]);
  EXPECT_EQ(advice["slo_kept"], nullptr);
  EXPECT_EQ(advice["reasons"].size(), 2U);
  // Nothing eligible is better by more than the margin.
  for (const json& row : rows) {
    if (!row["eligible"].get<bool>()) continue;
    EXPECT_GE(row["tpot_ms"]["mean"].get<double>(),
              chosen["tpot_ms"]["mean"].get<double>() * (1 - result["margin"].get<double>()));
  }
}

TEST(CliAdvise, RowsAreWhatSimulateSays) {
  const json row = run_json(kAdvise)["rows"][6];
  const json simulated =
      run_json(with(with({"simulate"}, kServer), with(kRequests, {"--replication", "1.25"})));
  for (const char* key : {"tpot_ms", "ttft_ms", "output_tokens_per_s", "max_activated", "policy",
                          "algorithm", "prefill_policy"}) {
    EXPECT_EQ(row[key], simulated[key]) << key;
  }
}

TEST(CliAdvise, OneSeedOneResultHoweverManyJobs) {
  const auto text = [](const Line& more) {
    json result = run_json(with(kAdvise, more));
    result.erase("wall_s");
    return result.dump();
  };
  EXPECT_EQ(text({"--jobs", "1"}), text({"--jobs", "3"}));
}

TEST(CliAdvise, PrintsTwoSentencesAndATable) {
  const TemporaryFolder folder;
  const std::string path = folder.file("advice.json");
  const Outcome outcome = run_metro(with(kAdvise, {"-o", path, "--slo-tpot-ms", "50"}));
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json result = json::parse(read_text(path));
  EXPECT_EQ(result["advice"]["chosen_by"], "goodput");
  EXPECT_EQ(result["advice"]["slo_kept"], true);
  EXPECT_EQ(result["advice"]["replicate"], false) << "everything keeps 50 ms";
  for (const json& sentence : result["advice"]["reasons"]) {
    EXPECT_NE(outcome.out.find(sentence.get<std::string>() + "\n"), std::string::npos);
  }
  EXPECT_NE(outcome.out.find("Advice for gpt-oss-20b"), std::string::npos);
  EXPECT_NE(outcome.out.find("* EPLB off"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.out.find("goodput/s"), std::string::npos);
}

TEST(CliAdvise, AnSloThatNobodyKeepsIsTold) {
  const json advice = run_json(with(kAdvise, {"--slo-tpot-ms", "0.001"}))["advice"];
  EXPECT_EQ(advice["slo_kept"], false);
  EXPECT_EQ(advice["chosen_by"], "tpot");
  EXPECT_EQ(advice["reasons"][0].get<std::string>().find("No candidate keeps the SLO; by TPOT, "),
            0U);
}

TEST(CliAdvise, WhatDoesNotFitIsARow) {
  // 73 GB of weights on each GPU leave room for an eighth of them more, not for three times as
  // many.
  const json result =
      run_json({"advise", "--model", "Qwen3-235B-A22B", "--gpu", "h200", "--gpus", "8", "--dtype",
                "bf16", "--isl", "16", "--osl", "8", "--num-requests", "8", "--concurrency", "8",
                "--replication", "1.125,4"});
  std::size_t infeasible = 0;
  for (const json& row : result["rows"]) {
    if (!row.contains("error")) continue;
    EXPECT_EQ(row["replication"], 4);
    EXPECT_NE(row["error"].get<std::string>().find("leave no room"), std::string::npos);
    ++infeasible;
  }
  EXPECT_EQ(infeasible, 5U + 2) << "groups of 2 and of 4 too";

  EXPECT_NE(usage_error({"advise", "--model", "DeepSeek-V3", "--gpu", "h100", "--gpus", "2",
                         "--isl", "16", "--osl", "8", "--num-requests", "8", "--concurrency", "8"},
                        4)
                .find("leave no room"),
            std::string::npos);
}

TEST(CliAdvise, RedundantExpertsAreTheReplicationThatEnginesCount) {
  // 32 experts on 4 GPUs: 8 more are 40 of 32.
  const Line base = with(with({"advise"}, kServer), kRequests);
  const json by_ratio = run_json(with(base, {"--replication", "1.25,1.5"}));
  json by_count = run_json(with(base, {"--redundant-experts", "8,16"}));
  EXPECT_EQ(by_count["rows"], by_ratio["rows"]);
  for (const json& row : by_count["rows"]) {
    EXPECT_EQ(row["redundant_experts"], 32 * (row["replication"].get<double>() - 1));
  }
  EXPECT_EQ(by_count["advice"]["redundant_experts"],
            by_count["rows"][by_count["advice"]["row"].get<std::size_t>()]["redundant_experts"]);
}

TEST(CliAdvise, RedundantExpertsThatGpusCannotShareNameTheNearest) {
  const Line base = with(with({"advise"}, kServer), kRequests);
  const auto error = [&](const char* count) {
    return usage_error(with(base, {"--redundant-experts", count}));
  };
  EXPECT_NE(error("8,9").find("--redundant-experts has 9: 32 experts and 9 more cannot be shared "
                              "out equally over 4 GPUs; the nearest that can is 8"),
            std::string::npos);
  EXPECT_NE(error("11").find("nearest that can is 12"), std::string::npos);
  EXPECT_NE(error("10").find("nearest that can is 12"), std::string::npos) << "of two the larger";
  EXPECT_NE(error("1").find("nearest that can is 4"), std::string::npos) << "0 is no replica";
  EXPECT_NE(error("0").find("--redundant-experts"), std::string::npos);
  EXPECT_NE(usage_error(with(kAdvise, {"--redundant-experts", "8"})).find("--replication"),
            std::string::npos)
      << "one or the other";
}

TEST(CliAdvise, SaysHowFewGpusKeepTheSlo) {
  const json result = run_json(with(kAdvise, {"--slo-tpot-ms", "1000", "--min-gpus"}));
  ASSERT_GE(result["fleets"].size(), 2U);
  int least = 0;
  for (const json& fleet : result["fleets"]) {
    if (fleet["keeps_slo"].get<bool>()) least = fleet["gpus"].get<int>();
  }
  EXPECT_EQ(result["min_gpus"], least);
  EXPECT_FALSE(run_json(kAdvise).contains("min_gpus"));
  EXPECT_NE(output_of(with(kAdvise, {"--slo-tpot-ms", "1000", "--min-gpus"}))
                .find("are the least that keep the SLO"),
            std::string::npos);
  EXPECT_NE(usage_error(with(kAdvise, {"--min-gpus"})).find("needs an SLO"), std::string::npos);
}

TEST(CliAdvise, FaultsOfTheCommandLine) {
  EXPECT_NE(usage_error(with(with({"advise"}, kServer), with(kRequests, {"--replication", "1"})))
                .find("--replication has 1, must be above 1"),
            std::string::npos);
  EXPECT_NE(usage_error(with(kAdvise, {"--policy", "optimal"})).find("unknown option '--policy'"),
            std::string::npos);
  EXPECT_NE(usage_error(with({"advise"}, kServer)).find("--requests, or --isl"), std::string::npos);
  EXPECT_NE(usage_error(with({"advise"}, kRequests)).find("is required"), std::string::npos);
}

}  // namespace
}  // namespace metro::test
