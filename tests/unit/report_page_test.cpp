// SPDX-License-Identifier: Apache-2.0
// Pages out of results: every command's sections, and results that are not what they say.
#include "report/report_page.hpp"

#include <gtest/gtest.h>

#include <string>

#include "io/result_file.hpp"
#include "metro/error.hpp"
#include "report/heat_map.hpp"
#include "report/html_table.hpp"
#include "report/plot.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

std::string envelope(const std::string& command, const std::string& fields) {
  return R"({"format": "metro-result", "version": 1, "command": ")" + command +
         R"(", "evidence": "simulated", "seed": 0, "inputs": [])" + fields + "}";
}

std::string page_of(const std::string& text) {
  return report_page({{"r.json", io::parse_result(text, "r.json")}});
}

std::string fault_of(const std::string& text) {
  try {
    page_of(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    return error.what();
  }
  return "nothing";
}

bool has(const std::string& page, const std::string& text) {
  return page.find(text) != std::string::npos;
}

TEST(ReportPage, GivesTheAdviceItsReasonsAndItsTable) {
  const std::string page = page_of(envelope("advise", R"(,
    "model": "Qwen3-30B-A3B", "advice": {"replicate": true, "replication": 1.25, "algorithm": "homed",
    "policy": "optimal", "experts": "ep", "row": 1, "reasons": ["Experts are <idle>.", "It costs 8 GB."]},
    "rows": [{"candidate": "off", "tpot_ms": {"mean": 12.5}, "kv_use": 0.5},
             {"candidate": "homed", "replication": 1.25, "tpot_ms": {"mean": 11.5}, "kv_use": 0.75},
             {"candidate": "1.5x", "error": "no room"}])"));
  EXPECT_TRUE(has(page, "Replicate 1.25x, placement homed, policy optimal."));
  EXPECT_TRUE(has(page, "<p>Experts are &lt;idle&gt;.</p>"));
  EXPECT_TRUE(has(page, "<p>It costs 8 GB.</p>"));
  EXPECT_TRUE(has(page, "\"y\":[12.5,11.5]")) << "candidates that could be built, as bars";
  EXPECT_TRUE(has(page, " homed 1.25x\"]")) << "the choice, marked";
  EXPECT_TRUE(has(page, "TPOT, ms"));
  EXPECT_TRUE(has(page, "the advice"));
  EXPECT_TRUE(has(page, "no room"));
  EXPECT_TRUE(has(page, "Qwen3-30B-A3B"));
}

TEST(ReportPage, AnAdviceHasItsLaunchLine) {
  const auto page = [](const std::string& launch) {
    return page_of(envelope(
        "advise", R"(, "rows": [], "advice": {"replicate": false, "launch": )" + launch + "}"));
  };
  const std::string refused = page(
      R"({"engine": "vLLM", "refusal": "no <groups>", "command": "vllm serve MODEL\n    --a '&'"})");
  EXPECT_TRUE(
      has(refused, "<p>vLLM cannot run that: no &lt;groups&gt;. The best that it can:</p>"));
  EXPECT_TRUE(has(refused, "<pre>vllm serve MODEL"));
  EXPECT_TRUE(has(refused, "&amp;"));
  EXPECT_FALSE(has(page("null"), "<pre>vllm"));
  EXPECT_FALSE(has(page(R"({"engine": 3, "refusal": null, "command": ["x"]})"), "cannot run that"));
}

TEST(ReportPage, DrawsLayersWhoseStagesWereNotAllMeasured) {
  const std::string page = page_of(envelope("bench layer", R"(,
    "device": "a GPU", "algorithm": "homed", "rows": [
    {"model": "M", "gpus": 8, "dtype": "bf16", "tokens_per_gpu": 4, "replication": 1, "policy": "moe-TP", "layer_us": 9,
     "max_activated": 3, "stage_us": {"gate": 2, "dispatch": null, "route": null, "experts": 7.5, "gate_topk": 2}},
    {"model": "M", "gpus": 8, "dtype": "bf16", "tokens_per_gpu": 4, "replication": 1.5, "policy": "home", "layer_us": 8,
     "max_activated": 2, "stage_us": {"dispatch": null, "route": 1.25, "experts": 6.5}}])"));
  EXPECT_TRUE(has(page, "\"y\":[7.5,6.5]")) << "experts";
  EXPECT_TRUE(has(page, "\"y\":[0.0,1.25]")) << "routing, which moe-TP has none of";
  EXPECT_FALSE(has(page, "\"name\":\"dispatch\"")) << "measured nowhere";
  EXPECT_TRUE(has(page, "\"name\":\"gate\""));
  EXPECT_FALSE(has(page, "\"name\":\"gate_topk\"")) << "the old spelling of the same";
}

TEST(ReportPage, ShowsCommandsThatItDoesNotKnow) {
  const std::string page =
      page_of(envelope("tomorrow", R"(, "answer": 42, "tpot": {"mape": 13.6, "bias": -1.25},
        "by": [{"model": "<b>", "error": 7.5}], "rows": [])"));
  EXPECT_TRUE(has(page, "<td>42</td>"));
  EXPECT_TRUE(has(page, "tpot mape"));
  EXPECT_TRUE(has(page, "&lt;b&gt;"));
  EXPECT_FALSE(has(page, "<b>\"")) << "text never becomes markup";
}

TEST(ReportPage, ShowsServingAndItsStages) {
  const std::string row =
      R"("model": "m", "gpu": "H200", "gpus": 8, "tp": 1, "ep": 8, "dtype": "fp8",
    "replication": 1.5, "algorithm": "homed", "policy": "optimal", "prefill_policy": "shares",
    "experts": "ep", "routing": "uniform", "fidelity": "table",
    "ttft_ms": {"mean": 1, "p50": 1, "p90": 1, "p99": 1}, "tpot_ms": {"mean": 2, "p50": 2, "p90": 2,
    "p99": 2}, "itl_ms": {"mean": 2, "p50": 2, "p90": 2, "p99": 2}, "latency_ms": {"mean": 3, "p50": 3,
    "p90": 3, "p99": 3}, "output_tokens_per_s": 10, "output_tokens_per_s_per_gpu": 1.25,
    "goodput_requests_per_s": 1, "mean_batch": 4, "max_activated": 3.5, "kv_use": 0.5,
    "preemptions": 0, "steps": 9, "simulated_s": 1, "stage_share": {"attention": 0.25, "experts": 0.75})";
  EXPECT_TRUE(has(page_of(envelope("simulate", ", " + row)), "\"name\":\"experts\",\"y\":[75.0]"));
  const std::string sweep = page_of(
      envelope("sweep", R"(, "grid": {"policy": ["even", "optimal"]}, "rows": [{)" + row +
                            R"(, "pareto": true}, {"policy": "even", "error": "no room"}])"));
  EXPECT_TRUE(has(sweep, "Pareto frontier"));
  EXPECT_TRUE(has(sweep, "\"x\":[2.0],\"y\":[1.25]"));
  EXPECT_TRUE(has(sweep, "policy optimal"));
  EXPECT_TRUE(has(sweep, "no room"));
}

TEST(ReportPage, RefusesWhatIsNoResult) {
  EXPECT_TRUE(has(fault_of("{}"), "r.json"));
  EXPECT_TRUE(has(fault_of("[1]"), "r.json: the document is"));
  EXPECT_TRUE(has(fault_of(R"({"format": "metro-placement", "version": 1})"), "format"));
  EXPECT_TRUE(has(fault_of(R"({"format": "metro-result", "version": 2, "command": "compare"})"),
                  "version"));
  EXPECT_TRUE(has(fault_of(R"({"format": "metro-result", "version": 1})"), "command is missing"));
}

TEST(ReportPage, RefusesAResultThatIsNotAsItsCommandWritesIt) {
  for (const char* command :
       {"compare", "reproduce", "simulate", "sweep", "bench layer", "advise"}) {
    EXPECT_TRUE(has(fault_of(envelope(command, "")), "r.json: is not as its command writes it"))
        << command;
    const std::string odd = envelope(command, R"(, "rows": [{"trace": 3}], "grid": {}, "batches": 1,
      "pairs": [], "figures": 7, "traces": [], "device": "", "algorithm": "")");
    if (std::string(command) != "advise") {  // whose rows may be anything
      EXPECT_TRUE(has(fault_of(odd), "is not as its command")) << command;
    }
  }
}

TEST(ReportPage, RefusesReasonsThatAreNoText) {
  for (const char* reasons : {"5", "[5]", "null", "{\"a\": \"b\"}", "[[\"a\"]]"}) {
    const std::string text =
        envelope("advise", std::string(R"(, "rows": [], "advice": {"reasons": )") + reasons + "}");
    EXPECT_TRUE(has(fault_of(text), "r.json: is not as its command writes it")) << reasons;
  }
}

/// A row of a sweep under the policy of this name.
std::string sweep_row(const std::string& policy, bool is_best) {
  return R"({"policy": ")" + policy +
         R"(", "experts": "ep", "replication": 1.5, "tpot_ms": {"mean": 2},
    "ttft_ms": {"mean": 1}, "output_tokens_per_s_per_gpu": 1, "max_activated": 3,
    "stage_share": {"experts": 1}, "pareto": )" +
         (is_best ? "true}" : "false}");
}

TEST(ReportPage, ASweepNeedsNoFrontier) {
  const std::string page =
      page_of(envelope("sweep", R"(, "grid": {}, "rows": [)" + sweep_row("even", false) + "]"));
  EXPECT_TRUE(has(page, "All points"));
  EXPECT_FALSE(has(page, "Stages of the frontier's points"));
}

TEST(ReportPage, ASweepMayHaveManyPolicies) {
  constexpr int kPolicies = 20'000;
  std::string rows;
  for (int i = 0; i < kPolicies; ++i) {
    rows += (i == 0 ? "" : ", ") + sweep_row("p" + std::to_string(i), i == 0);
  }
  const std::string page = page_of(envelope("sweep", R"(, "grid": {}, "rows": [)" + rows + "]"));
  EXPECT_TRUE(has(page, "p19999"));
}

TEST(ReportPage, SaysWhatIsTooMuch) {
  std::string keys;
  std::string rows;
  for (int i = 0; i < 5000; ++i) {
    const std::string member = "\"k" + std::to_string(i) + "\": 1";
    keys += ", " + member;
    rows += (i == 0 ? "{" : ", {") + member + "}";
  }
  EXPECT_TRUE(has(fault_of(envelope("x", keys)), "has 5006 keys, must have at most 4096"));
  const std::string text = envelope("x", R"(, "rows": [)" + rows + "]");
  try {
    page_of(text);
    FAIL() << "25,000,000 cells";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInfeasible);
    EXPECT_TRUE(has(error.what(), "r.json: 5000 rows with")) << error.what();
  }
}

TEST(ReportPage, IsTheSameForTheSameResults) {
  const std::string text = envelope("x", R"(, "rows": [{"a": 1.5}])");
  EXPECT_EQ(page_of(text), page_of(text));
}

TEST(Plot, ComesBackAsItWent) {
  const Plot plot{"t", "lines", "x", "y", {}, {{"one", {1, 2}, {3.5, 4}}, {"two", {}, {}}}};
  const Plot back = read_plot(plot_json(plot));
  EXPECT_EQ(back.title, "t");
  EXPECT_EQ(back.kind, "lines");
  ASSERT_EQ(back.series.size(), 2U);
  EXPECT_EQ(back.series[0].x, plot.series[0].x);
  EXPECT_EQ(back.series[0].y, plot.series[0].y);
  EXPECT_TRUE(has(plot_html(plot), "<td>3.5</td>")) << "the table has its figures";
}

TEST(HeatMap, ShadesFromTheLeastToTheMost) {
  const Json maps = Json::parse(R"([{"title": "a<b", "activated": [[0, 9], [9, 9]]}])");
  const std::string html = heat_maps_html(maps);
  EXPECT_TRUE(has(html, R"(<path class="heat-0" d="M0 0h1v1h-1z"/>)")) << html;
  EXPECT_TRUE(has(html, R"(<path class="heat-8" d="M0 1h1v1h-1zM1 0h1v1h-1zM1 1h1v1h-1z"/>)"));
  EXPECT_TRUE(has(html, "a&lt;b"));
  EXPECT_NO_THROW(heat_maps_html(Json::parse(R"([{"title": "", "activated": [[], []]}])")));
}

TEST(HtmlTable, EscapesAndLabels) {
  HtmlTable table({"<a>", "b"}, true);
  table.add_row();
  table.add("1 < 2");
  table.add("x", "better");
  const std::string html = table.html();
  EXPECT_TRUE(has(html, "&lt;a&gt;"));
  EXPECT_TRUE(has(html, "1 &lt; 2"));
  EXPECT_TRUE(has(html, R"(<td class="better" data-label="b">x</td>)")) << html;
  EXPECT_EQ(number_text(12345.6), "12346");
  EXPECT_EQ(number_text(3), "3");
  EXPECT_EQ(number_text(0.12344), "0.1234");
}

}  // namespace
}  // namespace metro::report
