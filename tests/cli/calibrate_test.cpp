// SPDX-License-Identifier: Apache-2.0
// `metro calibrate` on the CPU: the file it writes, and that the cost model reads its points back.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"
#include "metro/cost.hpp"
#include "metro/io.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

Outcome calibrate(std::vector<std::string> more) {
  std::vector<std::string> all = {"calibrate", "--device",    "cpu",  "--quick",   "--shapes",
                                  "256x128",   "--weight-gb", "0.02", "--threads", "1"};
  all.insert(all.end(), more.begin(), more.end());
  return run_metro(all);
}

TEST(Calibrate, TheCostModelReadsWhatWasMeasured) {
  const TemporaryFolder folder;
  const std::string file = folder.file("cpu.json");
  const Outcome outcome = calibrate({"--dtype", "fp32,bf16", "-o", file, "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, read_text(file)) << "--json is the file";
  const json document = json::parse(outcome.out);
  EXPECT_EQ(document["format"], "metro-calibration");
  EXPECT_EQ(document["gpu"], "cpu");
  EXPECT_GT(document["copy_gb_s"], 0);
  EXPECT_GT(document["router_us"]["optimal"], 0);

  const Calibration calibration = io::read_calibration(file);
  ASSERT_EQ(calibration.experts.size(), 2U);
  EXPECT_EQ(io::format_calibration(calibration).size(), outcome.out.size()) << "nothing is lost";
  for (const Calibration::ExpertTime& expert : calibration.experts) {
    ModelConfig model = *find_model("Qwen3-30B-A3B");
    model.hidden = expert.hidden;
    model.expert_intermediate = expert.intermediate;
    Deployment deployment;
    deployment.gpus = 8;
    deployment.expert_weights = expert.weights;
    const CostModel cost(model, *find_gpu("H100"), deployment, &calibration);
    ASSERT_EQ(expert.points.size(), 13U);
    std::vector<double> errors;
    for (const Calibration::ExpertPoint& point : expert.points) {
      EXPECT_GT(point.us, 0);
      errors.push_back(std::abs(cost.expert_us(point.tokens_per_expert()) / point.us - 1));
    }
    std::ranges::sort(errors);
    EXPECT_NEAR(errors[errors.size() / 2], expert.median_error, 1e-3)
        << "the error in the file is the cost model's";
  }
}

TEST(Calibrate, TheSimulatorTakesTheFile) {
  const TemporaryFolder folder;
  const std::string file = folder.file("cpu.json");
  ASSERT_EQ(calibrate({"-o", file}).exit_code, 0);
  std::vector<std::string> simulate = {"simulate",
                                       "--model",
                                       "Qwen3-30B-A3B",
                                       "--gpu",
                                       "h100",
                                       "--gpus",
                                       "8",
                                       "--isl",
                                       "64",
                                       "--osl",
                                       "8",
                                       "--num-requests",
                                       "16",
                                       "--concurrency",
                                       "8",
                                       "--calibration",
                                       file,
                                       "--json"};
  const Outcome outcome = run_metro(simulate);
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(json::parse(outcome.out)["inputs"].size(), 1U) << "the result names the file";

  // By the GPU's name, in a folder of one's own.
  setenv("METRO_CALIBRATION_DIR", std::filesystem::path(file).parent_path().c_str(), 1);
  std::ranges::replace(simulate, file, "auto");
  const Outcome missing = run_metro(simulate);
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_EQ(missing.err,
            "metro: --calibration is auto, but metro came with no h100.json, give a file\n");
  std::filesystem::rename(file, folder.file("h100.json"));
  const Outcome automatic = run_metro(simulate);
  unsetenv("METRO_CALIBRATION_DIR");
  ASSERT_EQ(automatic.exit_code, 0) << automatic.err;
  EXPECT_EQ(json::parse(automatic.out)["tpot_ms"], json::parse(outcome.out)["tpot_ms"]);
}

TEST(Calibrate, PeopleGetATable) {
  const Outcome outcome = calibrate({});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  for (const char* word : {"phi(8)", "median error", "optimal", "Left out: collectives"}) {
    EXPECT_NE(outcome.out.find(word), std::string::npos) << word;
  }
  EXPECT_EQ(outcome.err.find("experts 1 of 1"), std::string::npos) << "progress is for terminals";
}

TEST(Calibrate, ABudgetThatIsUsedUpLeavesShapesOut) {
  const Outcome outcome = calibrate({"--budget-s", "0.000001"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_EQ(outcome.out, "");
  EXPECT_NE(outcome.err.find("no shape was measured"), std::string::npos) << outcome.err;
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
}

TEST(Calibrate, FaultsOfTheCommandLine) {
  const auto fault = [](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"calibrate"};
    all.insert(all.end(), more.begin(), more.end());
    const Outcome outcome = run_metro(all);
    EXPECT_EQ(outcome.exit_code, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    return outcome.err;
  };
  EXPECT_EQ(fault({"--shapes", "7168"}),
            "metro: --shapes is '7168', must be sizes as in 7168x2048\n");
  EXPECT_EQ(fault({"--shapes", "100x32"}), "metro: --shapes has 100x32, must be multiples of 16\n");
  EXPECT_EQ(fault({"--dtype", "fp32"}),
            "metro: --dtype is fp32, but --device is cuda, use bf16 or fp8\n");
  EXPECT_NE(fault({"--models", "Qwen3-31B"}).find("--models is 'Qwen3-31B'"), std::string::npos);
}

TEST(Calibrate, NoDeviceIsOneLine) {
  const Outcome outcome = run_metro({"calibrate", "--quick", "--shapes", "256x128"});
  if (outcome.exit_code == 0) GTEST_SKIP() << "there is a GPU";
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  EXPECT_NE(outcome.err.find("use cpu"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace metro::test
