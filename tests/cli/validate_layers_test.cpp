// SPDX-License-Identifier: Apache-2.0
// metro validate --bench: the batches of a layer benchmark drawn again, and what is off is told.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

constexpr const char* kFixture = METRO_SOURCE_DIR "/tests/cli/layer_result.json";

class CliValidateLayers : public testing::Test {
 protected:
  /// A real run of a layer too small to matter; its routing is that of the whole model.
  static void SetUpTestSuite() {
    const Outcome outcome =
        run_metro({"bench",          "layer",    "--model",          "Qwen3-30B-A3B",
                   "--hidden",       "32",       "--intermediate",   "32",
                   "--virtual-gpus", "4,8",      "--tokens-per-gpu", "2,16",
                   "--replication",  "1.25,1.5", "--algorithm",      "homed",
                   "--dtype",        "bf16",     "--batches",        "3",
                   "--repeats",      "1",        "--seed",           "5",
                   "--json"});
    ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
    run = json::parse(outcome.out);
    run["device"] = "NVIDIA H100 80GB HBM3";
    for (json& row : run["rows"]) row["model"] = "Qwen3-30B-A3B";
  }

  [[nodiscard]] json validate(const json& bench, const std::string& calibration = "") const {
    std::vector<std::string> line = {"validate", "--json", "--bench",
                                     folder_.write("b.json", bench.dump())};
    if (!calibration.empty()) {
      line.insert(line.end(), {"--calibration", folder_.write("c.json", calibration)});
    }
    const Outcome outcome = run_metro(line);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return json::parse(outcome.out);
  }

  [[nodiscard]] std::string fault(const json& bench, int exit_code) const {
    const Outcome outcome =
        run_metro({"validate", "--bench", folder_.write("bad.json", bench.dump())});
    EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    return outcome.err;
  }

  /// What was predicted, as if it had been measured.
  [[nodiscard]] json perfect() const {
    const json predicted = validate(run);
    json bench = run;
    for (std::size_t i = 0; i < bench["rows"].size(); ++i) {
      bench["rows"][i]["layer_us"] = predicted["rows"][i]["predicted_layer_us"];
      bench["rows"][i]["stage_us"]["experts"] = predicted["rows"][i]["predicted_experts_us"];
    }
    return bench;
  }

  static inline json run;
  TemporaryFolder folder_;
};

// Results of before name two rows otherwise.
TEST_F(CliValidateLayers, TakesTheOldSpellingOfPolicies) {
  json before = run;
  int renamed = 0;
  for (json& row : before["rows"]) {
    if (row["policy"] != "EPLB off" && row["policy"] != "moe-TP") continue;
    row["policy"] = row["policy"] == "moe-TP" ? "moe-tp" : "none";
    ++renamed;
  }
  EXPECT_GT(renamed, 1);
  EXPECT_EQ(validate(before)["rows"], validate(run)["rows"]);
  EXPECT_EQ(validate(before)["by"], validate(run)["by"]);
}

TEST_F(CliValidateLayers, DrawsTheTimedBatchesAgain) {
  const json result = validate(run);
  EXPECT_EQ(result["command"], "validate");
  EXPECT_EQ(result["evidence"], "simulated");
  EXPECT_EQ(result["gpu"], "H100");
  EXPECT_EQ(result["skipped"], json::array()) << "other experts were activated than in the run";
  EXPECT_EQ(result["rows"].size(), run["rows"].size());
  EXPECT_EQ(result["rows"].size(), 2U * 2 * (2 + 2 * 5));

  json other = run;
  other["seed"] = 6;
  const json skipped = validate(other)["skipped"];
  EXPECT_GT(skipped.size(), run["rows"].size() / 2) << "another seed draws other batches";
  EXPECT_NE(skipped[0]["why"].get<std::string>().find("its batches are not"), std::string::npos);
}

TEST_F(CliValidateLayers, ExpertTimeIsTheSlowestRanks) {
  // Where every replica takes 10 us whatever its tokens, the slowest rank is the busiest one.
  const auto expert = [](int intermediate) {
    return R"({"hidden": 2048, "intermediate": )" + std::to_string(intermediate) +
           R"(, "dtype": "bf16", "base_us": 7, "phi_us": [[1, 10]]})";
  };
  const json result =
      validate(run, R"({"format": "metro-calibration", "version": 1, "gpu": "h100", "experts": [)" +
                        expert(768) + "," + expert(768 / 4) + "," + expert(768 / 8) + "]}");
  for (std::size_t i = 0; i < run["rows"].size(); ++i) {
    const double activated = run["rows"][i]["max_activated"].get<double>();
    EXPECT_NEAR(result["rows"][i]["predicted_experts_us"].get<double>(), 7 + 10 * activated, 1e-6)
        << run["rows"][i];
  }
}

TEST_F(CliValidateLayers, ErrorsFollowFromTheRows) {
  json bench = perfect();
  json result = validate(bench);
  EXPECT_NEAR(result["experts"]["mean"].get<double>(), 0, 1e-9);
  EXPECT_NEAR(result["layer"]["mean"].get<double>(), 0, 1e-9);
  for (const char* against : {"vs_none", "vs_even"}) {
    EXPECT_NEAR(result["change_points"][against]["mean"].get<double>(), 0, 1e-9);
    EXPECT_EQ(result["change_points"][against]["within_2_points"], 1);
  }
  EXPECT_EQ(result["change_points"]["vs_none"]["changes"], 4 * (1 + 2 * 5));
  EXPECT_EQ(result["change_points"]["vs_even"]["changes"], 4 * 2 * 4);

  // Every row of `optimal` a tenth slower than predicted.
  double shift = 0;
  int optimal = 0;
  for (std::size_t i = 0; i < bench["rows"].size(); ++i) {
    json& row = bench["rows"][i];
    if (row["policy"] != "optimal") continue;
    const json& change = result["rows"][i]["change_vs_none"];
    shift += 10 * (1 + change["measured"].get<double>() / 100);
    row["layer_us"] = row["layer_us"].get<double>() * 1.1;
    row["stage_us"]["experts"] = row["stage_us"]["experts"].get<double>() * 1.25;
    ++optimal;
  }
  ASSERT_EQ(optimal, 8);
  result = validate(bench);
  const double rows = 4 * (1 + 2 * 5);
  const double low = -100.0 / 11;  // of the measured
  EXPECT_NEAR(result["layer"]["bias"].get<double>(), low * optimal / rows, 1e-6);
  EXPECT_NEAR(result["layer"]["mean"].get<double>(), -low * optimal / rows, 1e-6);
  EXPECT_NEAR(result["experts"]["bias"].get<double>(), -20.0 * optimal / rows, 1e-6);
  const json& vs_none = result["change_points"]["vs_none"];
  EXPECT_NEAR(vs_none["bias"].get<double>(), -shift / rows, 1e-6);
  EXPECT_NEAR(vs_none["within_2_points"].get<double>(), 1 - optimal / rows, 1e-9);
}

TEST_F(CliValidateLayers, ReadsTheShippedRun) {
  // Layer times of an H200, taken with an earlier expert kernel.
  const Outcome outcome = run_metro({"validate", "--bench", kFixture, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json result = json::parse(outcome.out);
  EXPECT_EQ(result["gpu"], "H200");
  EXPECT_EQ(result["skipped"], json::array()) << "batches of shipped runs must stay the same";
  EXPECT_EQ(result["rows"].size(), 21U);
  EXPECT_EQ(result["rows"][0]["experts_us"], nullptr) << "the table has only the layer's";
  EXPECT_EQ(result["experts"]["mean"], 0);
  EXPECT_GT(result["layer"]["mean"], 0);
  for (const json& row : result["rows"]) {
    if (row["policy"] != "even") continue;  // who wakes every replica loses, measured as predicted
    EXPECT_GT(row["change_vs_none"]["measured"], 12);
    EXPECT_GT(row["change_vs_none"]["predicted"], 12);
  }
  const Outcome table = run_metro({"validate", "--bench", kFixture});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_NE(table.out.find("Change against EPLB off: 18 rows"), std::string::npos) << table.out;
}

TEST_F(CliValidateLayers, NamesFaults) {
  const auto without = [&](const char* key, const json& value) {
    json bench = run;
    bench[key] = value;
    return bench;
  };
  EXPECT_NE(
      fault(without("device", "2 CPU threads"), 3).find("must name a known GPU, or use --gpu"),
      std::string::npos);
  EXPECT_NE(fault(without("command", "bench route"), 3).find("command is"), std::string::npos);
  EXPECT_NE(fault(without("algorithm", "best"), 3).find("algorithm is 'best'"), std::string::npos);
  EXPECT_NE(fault(without("inputs", json::parse(R"([{"path": "t.npy", "sha256": ""}])")), 3)
                .find("must be a run without --trace"),
            std::string::npos);
  json bad_time = run;
  bad_time["rows"][3]["layer_us"] = -1;
  EXPECT_NE(fault(bad_time, 3).find("rows[3].layer_us is -1"), std::string::npos);
  json unknown = run;
  unknown["rows"][0]["model"] = "GPT-9";
  unknown["rows"][2]["policy"] = "best";
  const json result = validate(unknown);
  ASSERT_EQ(result["skipped"].size(), 2U);
  EXPECT_EQ(result["skipped"][0]["why"], "model 'GPT-9' is not a known one");
  EXPECT_EQ(result["skipped"][1]["why"], "policy 'best' is not a known one");
}

TEST_F(CliValidateLayers, NeedsOneTable) {
  const auto usage = [](const std::vector<std::string>& line) {
    const Outcome outcome = run_metro(line);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    return outcome.err;
  };
  EXPECT_NE(usage({"validate"}).find("one of --silicon and --bench"), std::string::npos);
  EXPECT_NE(usage({"validate", "--bench", "a", "--silicon", "b"}).find("only one"),
            std::string::npos);
  EXPECT_NE(usage({"validate", "--bench", kFixture, "--gpu", "h20O"}).find("--gpu is 'h20O'"),
            std::string::npos);
  EXPECT_NE(usage({"validate", "--silicon", "b", "--gpu", "h200"}).find("--bench only"),
            std::string::npos);
}

}  // namespace
}  // namespace metro::test
