// SPDX-License-Identifier: Apache-2.0
// Expert costs: what is read, and the line that each fault gives.
#include <gtest/gtest.h>

#include <string>

#include "io/parse.hpp"
#include "metro/error.hpp"

namespace metro::io {
namespace {

constexpr const char* kCalibration =
    R"({"format": "metro-calibration", "version": 1, "gpu": "H200", "experts": [
      {"hidden": 2048, "intermediate": 768, "dtype": "bf16", "base_us": 20,
       "phi_us": [[2, 4], [4, 6]]},
      {"hidden": 2048, "intermediate": 768, "dtype": "fp8", "base_us": 21, "phi_us": [[1, 3]]},
      {"hidden": 4096, "intermediate": 768, "dtype": "fp8", "base_us": 22,
       "phi_us": [[1, 3], [9, 2]]}]})";

ExpertCost parse(const std::string& text, const ExpertChoice& choice = {}) {
  return parse_expert_cost(text, choice, "f");
}

std::string fault(const std::string& text, const ExpertChoice& choice = {}) {
  try {
    parse(text, choice);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    return error.what();
  }
  return "no error";
}

TEST(ExpertCostFile, PhiGoesOnBeyondItsLastEntry) {
  const ExpertCost cost = parse(R"({"phi": [0, 3, 3, 5.5], "beyond": 0.25, "base": 7})");
  EXPECT_EQ(cost.base(), 7);
  EXPECT_EQ(cost.phi(0), 0);
  EXPECT_EQ(cost.phi(2), 3);
  EXPECT_EQ(cost.phi(3), 5.5);
  EXPECT_EQ(cost.phi(7), 6.5);
  EXPECT_EQ(parse(R"({"phi": [0], "beyond": 2})").phi(3), 6);
  EXPECT_EQ(parse(R"({"phi": [0], "beyond": 2})").base(), 0);
  EXPECT_EQ(
      parse(R"({"format": "metro-expert-cost", "version": 1, "phi": [0], "beyond": 0})").phi(1000),
      0);
}

TEST(ExpertCostFile, ACalibrationsExpertsArePickedByShapeAndType) {
  const ExpertCost cost = parse(kCalibration, {2048, 768, DataType::kBf16});
  EXPECT_EQ(cost.base(), 20);
  EXPECT_EQ(cost.phi(1), 4) << "below the first point: the first";
  EXPECT_EQ(cost.phi(3), 5);
  EXPECT_EQ(cost.phi(6), 8) << "beyond the last two: their line";
  EXPECT_EQ(parse(kCalibration, {0, 0, DataType::kBf16}).base(), 20) << "one is left";
  EXPECT_EQ(fault(kCalibration),
            "f: experts has 3 of any shape, shape and dtype must name one of 2048x768 bf16, "
            "2048x768 fp8, 4096x768 fp8");
  EXPECT_EQ(fault(kCalibration, {2048, 512, DataType::kFp8}),
            "f: experts has 0 of shape 2048x512 and dtype fp8, shape and dtype must name one of "
            "2048x768 bf16, 2048x768 fp8, 4096x768 fp8");
  EXPECT_EQ(fault(kCalibration, {4096, 768, {}}),
            "f: phi[2] is 2.875, must be at least phi[1], which is 3");
  EXPECT_EQ(fault(R"({"format": "metro-calibration", "version": 1, "gpu": "x"})"),
            "f: experts is empty, a cost needs the time of some expert");
}

TEST(ExpertCostFile, FaultsAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"[0, 1]", "f: the document is an array, must be an object"},
      {"{}", "f: phi is missing"},
      {R"({"phi": [0, 1]})", "f: beyond is missing"},
      {R"({"phi": [], "beyond": 0})", "f: phi is empty, must start with phi(0), which is 0"},
      {R"({"phi": 3, "beyond": 0})", "f: phi is 3, must be an array"},
      {R"({"phi": [1, 2], "beyond": 0})", "f: phi[0] is 1, must be 0: no tokens take no time"},
      {R"({"phi": [0, 2, 1.5], "beyond": 0})",
       "f: phi[2] is 1.5, must be at least phi[1], which is 2"},
      {R"({"phi": [0, -2], "beyond": 0})",
       "f: phi[1] is -2, must be a finite number of us, 0 or more"},
      {R"({"phi": [0, "2"], "beyond": 0})", "f: phi[1] is '2', must be a number"},
      {R"({"phi": [0, null], "beyond": 0})", "f: phi[1] is null, must be a number"},
      {R"({"phi": [0], "beyond": -0.5})",
       "f: beyond is -0.5, must be a finite number of us, 0 or more"},
      {R"({"phi": [0], "beyond": 0, "base": -1})",
       "f: base is -1, must be a finite number of us, 0 or more"},
      {R"({"format": "metro-loads", "phi": [0], "beyond": 0})",
       "f: format is 'metro-loads', must be 'metro-expert-cost'"},
  };
  for (const auto& [text, message] : cases) EXPECT_EQ(fault(text), message) << text;
  EXPECT_NE(fault(R"({"phi": [0, 1e999], "beyond": 0})"), "no error");
  EXPECT_NE(fault(R"({"phi": [0, NaN], "beyond": 0})"), "no error");
  EXPECT_EQ(fault(R"({"phi": [0], "beyond": 0})", {2048, 768, {}}),
            "f: has phi itself, so it takes no shape and no dtype: they pick from a calibration");
}

}  // namespace
}  // namespace metro::io
