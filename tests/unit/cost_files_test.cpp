// SPDX-License-Identifier: Apache-2.0
// Calibrations and tables of serving points: what is read, and every fault's line.
#include <gtest/gtest.h>

#include <string>

#include "io/calibration_file.hpp"
#include "io/serving_table.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"

namespace metro::io {
namespace {

template <typename Parse>
std::string fault(Parse&& parse) {
  try {
    parse();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    return error.what();
  }
  return "no error";
}

std::string calibration(const std::string& members) {
  return R"({"format": "metro-calibration", "version": 1, "gpu": "H200")" + members + "}";
}

std::string calibration_fault(const std::string& members) {
  return fault([&] { parse_calibration(calibration(members), "f"); });
}

TEST(CalibrationFile, ReadsEverything) {
  const Calibration c = parse_calibration(calibration(R"(, "copy_gb_s": 4300, "gemm_tflops": 700,
        "experts": [{"hidden": 2048, "intermediate": 768, "dtype": "bf16", "base_us": 20,
                     "phi_us": [[1, 4.5], [64, 5]]}],
        "collectives": [{"name": "all-gather", "gpus": 8, "alpha_us": 9.5, "beta_gb_s": 300}],
        "router_us": {"optimal": 2.3, "hash": 1.7},
        "engines": [{"name": "mine", "layer_us": 5, "mixes_prefill": false}])"),
                                          "f");
  EXPECT_EQ(c.gpu, "H200");
  EXPECT_EQ(c.copy_gb_s, 4300);
  ASSERT_EQ(c.experts.size(), 1U);
  EXPECT_EQ(c.experts[0].phi_us[1], (std::pair<std::int64_t, double>{64, 5.0}));
  EXPECT_EQ(c.collectives[0].alpha_us, 9.5);
  EXPECT_EQ(c.router_us.size(), 2U);
  EXPECT_EQ(c.engines[0].layer_us, 5);
  EXPECT_FALSE(c.engines[0].mixes_prefill);
  EXPECT_EQ(parse_calibration(calibration(""), "f").copy_gb_s, 0) << "all parts are optional";
}

TEST(CalibrationFile, WritesWhatItReads) {
  Calibration c;
  c.gpu = "H\"100\"";
  c.device = "NVIDIA H100 80GB HBM3";
  c.copy_gb_s = 2811.123;
  c.gemm_tflops = 712.5;
  c.router_us = {{"hash", 1.25}, {"optimal", 2.5}};  // readers sort them by name
  c.collectives = {{"all-gather", 8, 7.5, 310.25, {{1024, 7.6}, {4096, 8.0}}, 0.0625},
                   {"all-reduce", 2, 5, 200, {}, 0}};
  c.experts.push_back({2048, 768, DataType::kFp8, 20.5, {{1, 4.5}, {64, 5.0001}}, {}, 0.031});
  c.experts.push_back({7168, 2048, DataType::kBf16, 0, {{1, 30}}, {}, 0});
  c.experts[0].points = {{1, 1, 1, 25.125}, {8, 4, 64, 99.5}};
  c.engines.push_back({.name = "mine", .layer_us = 5, .mixes_prefill = false});
  const std::string text = format_calibration(c);
  const Calibration again = parse_calibration(text, "f");
  EXPECT_EQ(format_calibration(again), text);
  EXPECT_EQ(again.gpu, c.gpu);
  EXPECT_EQ(again.device, c.device);
  EXPECT_EQ(again.router_us, c.router_us);
  EXPECT_EQ(again.engines, c.engines);
  ASSERT_EQ(again.experts.size(), 2U);
  EXPECT_EQ(again.experts[0].points, c.experts[0].points);
  EXPECT_EQ(again.experts[0].phi_us, c.experts[0].phi_us);
  EXPECT_EQ(again.experts[0].median_error, 0.031);
  EXPECT_EQ(again.collectives[0].points, c.collectives[0].points);
  EXPECT_EQ(again.experts[0].points[1].tokens_per_expert(),
            (std::vector<std::int32_t>{256, 4, 4, 4, 4, 4, 4, 4}));
}

TEST(CalibrationFile, NamesEveryFault) {
  EXPECT_EQ(fault([] {
              parse_calibration(R"({"format": "metro-calibration", "version": 2, "gpu": "x"})",
                                "f");
            }),
            "f: version is 2, this build reads metro-calibration up to version 1");
  EXPECT_EQ(calibration_fault(R"(, "copy_gb_s": -1)"),
            "f: copy_gb_s is -1, must be a number 1e-06..1000000000, or 0 for unknown");
  EXPECT_EQ(calibration_fault(R"(, "experts": 3)"), "f: experts is 3, must be an array");
  const std::string shape = R"("hidden": 2, "intermediate": 3, "dtype": "bf16", "base_us": 1)";
  EXPECT_EQ(calibration_fault(R"(, "experts": [{)" + shape + "}]"),
            "f: experts[0].phi_us is missing");
  EXPECT_EQ(calibration_fault(R"(, "experts": [{)" + shape + R"(, "phi_us": []}])"),
            "f: experts[0].phi_us is empty, must have a [tokens, us] pair");
  EXPECT_EQ(calibration_fault(R"(, "experts": [{)" + shape + R"(, "phi_us": [[1]]}])"),
            "f: experts[0].phi_us[0] is an array, must be a [tokens, us] pair");
  EXPECT_EQ(calibration_fault(R"(, "experts": [{)" + shape + R"(, "phi_us": [[8, 1], [8, 2]]}])"),
            "f: experts[0].phi_us[1][0] is 8, must be above 8: tokens ascend from 1");
  EXPECT_EQ(calibration_fault(R"(, "experts": [{)" + shape + R"(, "phi_us": [[8, 0]]}])"),
            "f: experts[0].phi_us[0][1] is 0, must be a number 1e-06..1000000000");
  EXPECT_EQ(
      calibration_fault(R"(, "experts": [{"hidden": 1, "intermediate": 1, "dtype": "int7"}])"),
      "f: experts[0].dtype is 'int7', must be one of 'fp32', 'bf16', 'fp8', 'fp4'");
  const std::string point = R"(, "phi_us": [[8, 1]], "points": [{"activated": 1, "tokens": 4, )";
  EXPECT_EQ(calibration_fault(R"(, "experts": [{)" + shape + point + R"("skew": 1}]}])"),
            "f: experts[0].points[0].us is missing");
  EXPECT_EQ(
      calibration_fault(R"(, "experts": [{)" + shape + point + R"("skew": 99999, "us": 1}]}])"),
      "f: experts[0].points[0].skew is 99999, must be in 1..32768");
  EXPECT_EQ(calibration_fault(R"(, "collectives": [{"name": "all-gather", "gpus": 2,
                                 "alpha_us": 1, "beta_gb_s": 1, "points": [[1]]}])"),
            "f: collectives[0].points[0] is an array, must be a [bytes, us] pair");
  EXPECT_EQ(calibration_fault(R"(, "router_us": [])"),
            "f: router_us is an array, must be an object of policies and times");
  EXPECT_EQ(calibration_fault(R"(, "engines": [{"name": "a", "mixes_prefill": 1}])"),
            "f: engines[0].mixes_prefill is 1, must be true or false");
}

const std::string kHeader =
    "id,canonical_model,system,backend,precision,isl,osl,concurrency,gpus,attn_mode,ep,moe_tp,"
    "silicon_ttft_ms,silicon_tpot_ms,group_id,measurement_id\n";
const std::string kRow = "a,DeepSeek-R1,b200_sxm,vllm,fp8,1024,512,16,8,tp,8,1,300.5,12.5,g,m-0\n";

std::string table_fault(const std::string& text) {
  return fault([&] { parse_serving_table(text, "t.csv"); });
}

TEST(ServingTable, ReadsRowsByTheNamesOfColumns) {
  const auto points = parse_serving_table("x," + kHeader + "\"1,2\"," + kRow, "t.csv");
  ASSERT_EQ(points.size(), 1U);
  const ServingPoint& p = points[0];
  EXPECT_EQ(p.model, "DeepSeek-R1");
  EXPECT_EQ(p.precision, DataType::kFp8);
  EXPECT_EQ(p.concurrency, 16);
  EXPECT_EQ(p.attention, AttentionSharding::kTensor);
  EXPECT_EQ(p.tpot_ms, 12.5);
  EXPECT_EQ(p.line, 2U);
}

TEST(ServingTable, KeepsWhatIsUnknown) {
  const auto points = parse_serving_table(
      kHeader + "a,M,G,,fp4,1,1,,8,unknown,8,1,1e3,1,g,m\r\n" + "a,M,G,,fp4,1,1,2,8,,8,1,1,1,g,m",
      "t.csv");
  EXPECT_EQ(points[0].concurrency, std::nullopt);
  EXPECT_EQ(points[0].attention, AttentionSharding::kUnknown);
  EXPECT_EQ(points[1].attention, AttentionSharding::kUnknown);
}

TEST(ServingTable, NamesEveryFault) {
  const auto changed = [](const std::string& from, const std::string& to) {
    std::string row = kRow;
    row.replace(row.find(from), from.size(), to);
    return table_fault(kHeader + row);
  };
  EXPECT_EQ(table_fault("id,x\n"), "t.csv: line 1: has no column 'canonical_model'");
  EXPECT_EQ(table_fault(kHeader), "t.csv: has a header and no rows");
  EXPECT_EQ(table_fault(kHeader + "a,b\n"),
            "t.csv: line 2: has 2 fields, must have the header's 16");
  EXPECT_EQ(table_fault(kHeader + "\"a\n"), "t.csv: line 2: a quote is not closed");
  EXPECT_EQ(table_fault(kHeader + "\n" + kRow),
            "t.csv: line 2: has 1 fields, must have the header's 16");
  EXPECT_EQ(changed("1024", "0"), "t.csv: line 2: isl is '0', must be an integer 1..1073741824");
  EXPECT_EQ(changed("fp8", "fp3"),
            "t.csv: line 2: precision is 'fp3', must be a number format such as bf16, fp8 or fp4");
  EXPECT_EQ(changed("12.5", "nan"),
            "t.csv: line 2: silicon_tpot_ms is 'nan', must be a number above 0");
  EXPECT_EQ(changed("12.5", "-1"),
            "t.csv: line 2: silicon_tpot_ms is '-1', must be a number above 0");
  EXPECT_EQ(changed("a,", ","), "t.csv: line 2: id is '', must not be empty");
  EXPECT_EQ(changed(",16,", ",x,"),
            "t.csv: line 2: concurrency is 'x', must be an integer 1..1073741824");
}

}  // namespace
}  // namespace metro::io
