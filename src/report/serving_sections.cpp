// SPDX-License-Identifier: Apache-2.0
// One simulation, or many.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "core/vocabulary.hpp"
#include "report/html.hpp"
#include "report/html_table.hpp"
#include "report/plot.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

constexpr std::size_t kMostBars = 16;

/// What tells rows of a sweep apart: keys of its grid with several values.
std::vector<std::string> varied(const Json& grid) {
  std::vector<std::string> keys;
  for (const auto& [name, values] : grid.items()) {
    if (values.size() < 2) continue;
    std::string key = name;
    std::ranges::replace(key, '-', '_');
    keys.push_back(std::move(key));
  }
  return keys;
}

std::string label(const Json& row, const std::vector<std::string>& keys) {
  std::string text;
  for (const std::string& key : keys) {
    if (!row.contains(key)) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key, value_text(row[key]));
  }
  return text.empty() ? "all" : text;
}

/// Shares of time as bars, a bar for each row.
Plot stage_plot(const std::vector<const Json*>& rows, const std::vector<std::string>& keys) {
  Plot plot{"Where the time of all steps goes", "stacked", "", "% of the time", {}, {}};
  for (const Json* row : rows) plot.categories.push_back(label(*row, keys));
  for (const auto& [stage, unused] : rows.front()->at("stage_share").items()) {
    PlotSeries series{stage, {}, {}};
    for (const Json* row : rows) {
      series.y.push_back(100 * row->at("stage_share").at(stage).get<double>());
    }
    if (std::ranges::any_of(series.y, [](double share) { return share >= 0.05; })) {
      plot.series.push_back(std::move(series));
    }
  }
  return plot;
}

Plot pareto_plot(const std::vector<const Json*>& rows) {
  Plot plot{"TPOT against throughput", "points", "mean TPOT, ms",
            "output tokens/s per GPU", {},       {}};
  PlotSeries frontier{"frontier", {}, {}};
  std::vector<const Json*> best;
  for (const Json* row : rows) {
    const bool sharded = is_moe_tp(row->at("experts").get<std::string>());
    const std::string name = sharded ? "moe-TP"
                             : row->at("replication").get<double>() > 1
                                 ? row->at("policy").get<std::string>()
                                 : "EPLB off";
    auto series = std::ranges::find(plot.series, name, &PlotSeries::name);
    if (series == plot.series.end()) {
      plot.series.push_back({name, {}, {}});
      series = plot.series.end() - 1;
    }
    series->x.push_back(row->at("tpot_ms").at("mean").get<double>());
    series->y.push_back(row->at("output_tokens_per_s_per_gpu").get<double>());
    if (row->at("pareto").get<bool>()) best.push_back(row);
  }
  std::ranges::sort(best, {},
                    [](const Json* row) { return row->at("tpot_ms").at("mean").get<double>(); });
  for (const Json* row : best) {
    frontier.x.push_back(row->at("tpot_ms").at("mean").get<double>());
    frontier.y.push_back(row->at("output_tokens_per_s_per_gpu").get<double>());
  }
  plot.series.push_back(std::move(frontier));
  return plot;
}

std::vector<Section> sweep_sections(const Json& result) {
  const std::vector<std::string> keys = varied(result.at("grid"));
  std::vector<const Json*> rows;
  std::vector<const Json*> shown;
  HtmlTable table({"Point", "TPOT, ms", "TTFT, ms", "Output tokens/s per GPU", "Max activated",
                   "On the frontier"});
  for (const Json& row : result.at("rows")) {
    table.add_row();
    table.add(label(row, keys), "text");
    if (row.contains("error")) {
      table.add(row["error"].get<std::string>(), "text");
      continue;
    }
    rows.push_back(&row);
    const bool is_best = row.at("pareto").get<bool>();
    if (is_best && shown.size() < kMostBars) shown.push_back(&row);
    table.add(value_text(row.at("tpot_ms")));
    table.add(value_text(row.at("ttft_ms")));
    table.add(value_text(row.at("output_tokens_per_s_per_gpu")));
    table.add(value_text(row.at("max_activated")));
    table.add(is_best ? "yes" : "", is_best ? "better" : "");
  }
  if (rows.empty()) return {{"Points", table.html()}};
  return {{"Pareto frontier", plot_html(pareto_plot(rows))},
          {"Stages of the frontier's points", plot_html(stage_plot(shown, keys))},
          {"All points", table.html()}};
}

std::string facts(const Json& result) {
  constexpr std::array<std::string_view, 13> kKeys = {
      "model",     "gpu",    "gpus",           "tp",      "ep",      "dtype",   "replication",
      "algorithm", "policy", "prefill_policy", "experts", "routing", "fidelity"};
  HtmlTable table({"Configuration", ""});
  for (const std::string_view key : kKeys) {
    table.add_row();
    table.add(key);
    table.add(value_text(result.at(key)), "text");
  }
  return table.html();
}

std::vector<Section> simulation_sections(const Json& result) {
  HtmlTable times({"ms", "Mean", "p50", "p90", "p99"});
  for (const char* key : {"ttft_ms", "tpot_ms", "itl_ms", "latency_ms"}) {
    times.add_row();
    times.add(std::string(key).substr(0, std::string_view(key).size() - 3));
    for (const char* at : {"mean", "p50", "p90", "p99"})
      times.add(value_text(result.at(key).at(at)));
  }
  HtmlTable counts({"Served", ""});
  for (const char* key :
       {"output_tokens_per_s", "output_tokens_per_s_per_gpu", "goodput_requests_per_s",
        "mean_batch", "max_activated", "kv_use", "preemptions", "steps", "simulated_s"}) {
    counts.add_row();
    counts.add(key);
    counts.add(value_text(result.at(key)));
  }
  return {{"Latency", times.html() + counts.html()},
          {"Stages", plot_html(stage_plot({&result}, {"policy"}))},
          {"What was simulated", facts(result)}};
}

}  // namespace

std::vector<Section> serving_sections(const Json& result) {
  return result.contains("rows") ? sweep_sections(result) : simulation_sections(result);
}

}  // namespace metro::report
