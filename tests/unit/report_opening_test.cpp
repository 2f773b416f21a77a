// SPDX-License-Identifier: Apache-2.0
// What a page of several results opens with.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "io/result_file.hpp"
#include "metro/error.hpp"
#include "report/opening.hpp"
#include "report/report_page.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

Json row(const std::string& policy, int tokens, double activated, double off, int worse = 0) {
  return {{"trace", "t.npy"},
          {"algorithm", "homed"},
          {"gpus", 16},
          {"replication", 1.5},
          {"tokens", tokens},
          {"policy", policy},
          {"max_activated", activated},
          {"no_replication", off},
          {"tensor_sharded", 0.9 * activated},
          {"vs_no_replication", activated / off},
          {"worse_than_none", worse}};
}

Json compare(const Json& rows) {
  return {{"format", "metro-result"},
          {"version", 1},
          {"command", "compare"},
          {"evidence", "simulated"},
          {"seed", 0},
          {"inputs", Json::array()},
          {"batches", 100},
          {"rows", rows},
          {"traces", {{{"path", "t.npy"}, {"num_experts", 256}, {"layers", 15}}}}};
}

Json grid() {
  return compare({row("even", 16, 12, 10), row("optimal", 16, 7.5, 10), row("even", 128, 24, 16),
                  row("optimal", 128, 16, 16, 3)});
}

bool has(const std::string& page, const std::string& text) {
  return page.find(text) != std::string::npos;
}

TEST(Opening, HasThreeNumbersAPictureAndWhenItPays) {
  const std::string html = opening_html(grid());
  EXPECT_TRUE(has(html, "<b>-25 %</b>"));
  EXPECT_TRUE(has(html, "<b>3 of 3,000</b>"));
  EXPECT_TRUE(has(html, "<b>+50 %</b>"));
  EXPECT_TRUE(has(html, "<svg class=\"opening\""));
  EXPECT_TRUE(has(html, "Here up to <b>1 token per GPU</b>"));
  EXPECT_TRUE(has(html, "From <b>8</b> on every expert is active"));
  EXPECT_TRUE(has(html, "metro advise"));
  EXPECT_FALSE(has(html, "--")) << "a page names no options";
}

TEST(Opening, SaysWhereNothingIsGained) {
  const std::string html =
      opening_html(compare({row("even", 64, 24, 16), row("optimal", 64, 16, 16),
                            row("even", 128, 24, 16), row("optimal", 128, 16, 16)}));
  EXPECT_TRUE(has(html, "<b>+0 %</b>") || has(html, "<b>-0 %</b>"));
  EXPECT_TRUE(has(html, "Nowhere on this trace"));
}

TEST(Opening, IsEmptyForWhatIsTooSmall) {
  EXPECT_EQ(opening_html(compare({row("even", 16, 12, 10), row("optimal", 16, 7, 10)})), "");
  EXPECT_EQ(opening_html(compare({row("even", 16, 12, 10), row("even", 128, 24, 16)})), "");
  EXPECT_EQ(opening_html(compare(Json::array())), "");
}

TEST(Opening, StandsOnPagesOfSeveralResultsAlone) {
  const auto parsed = [](const Json& json) { return io::parse_result(json.dump(), "r.json"); };
  Json other = compare(Json::array());
  other["command"] = "x";
  const std::string both = report_page({{"d/x.json", parsed(other)}, {"d/c.json", parsed(other)}});
  EXPECT_TRUE(has(both, "<h1>metro report</h1>"));
  Json broken = grid();
  broken["rows"][0].erase("tokens");
  try {
    static_cast<void>(report_page({{"x.json", parsed(other)}, {"c.json", parsed(broken)}}));
    FAIL() << "a row without tokens was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    EXPECT_TRUE(std::string(error.what()).starts_with("c.json: is not as its command"))
        << error.what();
  }
}

}  // namespace
}  // namespace metro::report
