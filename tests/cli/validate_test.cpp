// SPDX-License-Identifier: Apache-2.0
// metro validate: the JSON, how rows are counted, and the public table where it is at hand.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/run_metro.hpp"

namespace metro::test {
namespace {

using nlohmann::json;

const std::string kHeader =
    "id,canonical_model,system,backend,precision,isl,osl,concurrency,gpus,attn_mode,ep,moe_tp,"
    "silicon_ttft_ms,silicon_tpot_ms,group_id,measurement_id\n";

class CliValidate : public testing::Test {
 protected:
  [[nodiscard]] json validate(const std::string& rows, const std::string& calibration = "") const {
    std::vector<std::string> line = {"validate", "--json", "--silicon",
                                     folder_.write("t.csv", kHeader + rows)};
    if (!calibration.empty()) {
      line.insert(line.end(), {"--calibration", folder_.write("c.json", calibration)});
    }
    const Outcome outcome = run_metro(line);
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return json::parse(outcome.out);
  }

  TemporaryFolder folder_;
};

TEST_F(CliValidate, CountsMeasurementsNotRows) {
  const json once = validate(
      "a,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,8,1,tp,1,1,100,5,g,m-0\n"
      "b,DeepSeek-R1,b200_sxm,sglang,fp8,1024,1024,8,8,tp,8,1,200,20,h,m-1\n");
  const json twice = validate(
      "a,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,8,1,tp,1,1,100,5,g,m-0\n"
      "c,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,8,1,tp,1,1,100,5,g,m-0\n"
      "b,DeepSeek-R1,b200_sxm,sglang,fp8,1024,1024,8,8,tp,8,1,200,20,h,m-1\n");
  EXPECT_EQ(once["measurements"], 2);
  EXPECT_EQ(twice["measurements"], 2);
  for (const char* key : {"tpot", "ttft", "by"}) EXPECT_EQ(once[key], twice[key]);
  EXPECT_EQ(twice["rows"].size(), 3U);
  EXPECT_EQ(once["by"].size(), 2U);
  EXPECT_EQ(once["command"], "validate");
  EXPECT_EQ(once["inputs"].size(), 1U);
}

TEST_F(CliValidate, ErrorsFollowFromTheRows) {
  const json result = validate(
      "a,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,8,1,tp,1,1,100,5,g,m-0\n"
      "b,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,8,1,tp,1,1,100,10,g,m-1\n"
      "c,gpt-oss-120b,h200_sxm,trtllm,fp4,1024,1024,64,2,dp,2,1,100,9,k,m-2\n");
  double sum = 0;
  double bias = 0;
  for (const json& row : result["rows"]) {
    const double error =
        100 * (row["predicted_tpot_ms"].get<double>() / row["tpot_ms"].get<double>() - 1);
    sum += std::abs(error);
    bias += error;
  }
  EXPECT_NEAR(result["tpot"]["mape"].get<double>(), sum / 3, 1e-9);
  EXPECT_NEAR(result["tpot"]["bias"].get<double>(), bias / 3, 1e-9);
  // 5 and 10 lie a third from 7.5.
  EXPECT_NEAR(result["repeat_spread"].get<double>(), 100.0 / 3, 1e-9);
  EXPECT_EQ(result["by"][0]["measurements"], 2);
  EXPECT_LE(result["tpot"]["median"], result["tpot"]["p90"]);
}

TEST_F(CliValidate, SkipsOnlyWhatIsUnknown) {
  const json result = validate(
      "a,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,8,1,unknown,1,1,100,5,g,m-0\n"
      "b,Qwen3-30B-A3B,h200_sxm,vllm,bf16,1024,1024,,1,tp,1,1,100,5,g,m-1\n"
      "c,Mixtral-8x7B,mi300x,an-engine,int4,77,9,3,4,tp,3,2,100,5,g,m-2\n");
  EXPECT_EQ(result["measurements"], 1);
  EXPECT_EQ(result["skipped"], json::parse(R"([{"id": "a", "why": "attn_mode is unknown"},
                            {"id": "b", "why": "concurrency is unknown"}])"));
}

TEST_F(CliValidate, UsesTheConstantsOfACalibration) {
  const std::string row = "a,Qwen3-30B-A3B,h200_sxm,mine,bf16,1024,1024,8,1,tp,1,1,100,5,g,m-0\n";
  const auto tpot = [&](const std::string& layer_us) {
    const json result =
        validate(row, R"({"format": "metro-calibration", "version": 1, "gpu": "h200", "engines": [)"
                      R"({"name": "mine", "layer_us": )" +
                          layer_us + "}]}");
    return result["rows"][0]["predicted_tpot_ms"].get<double>();
  };
  // 48 layers, one microsecond more each, and no prefill of others hides it.
  EXPECT_GT(tpot("11"), tpot("10") + 0.047);
}

TEST_F(CliValidate, NamesTheRowThatNobodyKnows) {
  const std::string path = folder_.write(
      "t.csv", kHeader + "a,GPT-9,h200_sxm,vllm,bf16,1024,1024,8,1,tp,1,1,100,5,g,m-0\n");
  const Outcome outcome = run_metro({"validate", "--silicon", path});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.err,
            "metro: " + path + ": line 2: canonical_model is 'GPT-9', must be a known model\n");
}

TEST_F(CliValidate, PredictsThePublicTable) {
  const std::filesystem::path table =
      std::filesystem::path(METRO_SOURCE_DIR) / "../shared/data/silicon/silicon_agg_moe_ep_dev.csv";
  if (!std::filesystem::exists(table)) GTEST_SKIP() << "no ../shared/data beside the source";
  const Outcome outcome = run_metro({"validate", "--json", "--silicon", table.string()});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const json result = json::parse(outcome.out);
  EXPECT_EQ(result["measurements"], 299);
  EXPECT_EQ(result["skipped"].size(), 23U);
  EXPECT_LE(result["tpot"]["mape"], 15.0);
  EXPECT_LE(result["tpot"]["median"], 10.0);
  EXPECT_LE(result["ttft"]["mape"], 40.0);
}

}  // namespace
}  // namespace metro::test
