// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/vocabulary.hpp"
#include "report/html.hpp"
#include "report/html_table.hpp"
#include "report/plot.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

std::string paragraph(const Json& reason) {
  return fmt::format("<p>{}</p>\n", escape_html(reason.get<std::string>()));
}

/// A reason, or several, as paragraphs.
std::string paragraphs(const Json& reasons) {
  if (!reasons.is_array()) return paragraph(reasons);
  std::string html;
  for (const Json& reason : reasons) html += paragraph(reason);
  return html;
}

/// "do not replicate", or how to.
std::string verdict(const Json& advice) {
  if (!advice.contains("replicate")) return "";
  std::string text = "Do not replicate.";
  const int shards = advice.value("shards", 1);
  const std::string groups =
      shards > 1 ? fmt::format("; shard every expert over {} GPUs", shards) : "";
  if (advice["replicate"].get<bool>()) {
    text = fmt::format("Replicate {}x, placement {}, policy {}{}.",
                       value_text(advice.at("replication")), value_text(advice.at("algorithm")),
                       value_text(advice.at("policy")), groups);
  } else if (!groups.empty()) {
    text = "Do not replicate" + groups + ".";
  } else if (is_moe_tp(advice.value("experts", ""))) {
    text = "Do not replicate; shard every expert over all GPUs (moe-TP).";
  }
  return fmt::format("<p class=\"verdict\">{}</p>\n", escape_html(text));
}

/// How to start the engine that was named.
std::string launch_html(const Json& advice) {
  if (!advice.contains("launch") || !advice["launch"].is_object()) return "";
  const Json& launch = advice["launch"];
  const auto text = [&](const char* key) {
    return launch.contains(key) && launch[key].is_string() ? launch[key].get<std::string>() : "";
  };
  std::string html;
  if (const std::string refusal = text("refusal"); !refusal.empty()) {
    html += paragraph(fmt::format("{} cannot run that: {}.{}", text("engine"), refusal,
                                  text("command").empty() ? "" : " The best that it can:"));
  }
  if (const std::string command = text("command"); !command.empty()) {
    html += fmt::format("<pre>{}</pre>\n", escape_html(command));
  }
  return html;
}

std::string name_of(const Json& row) {
  const bool replicates = row.contains("replication") && row["replication"] != 1.0;
  return value_text(row.at("candidate")) +
         (replicates ? " " + value_text(row["replication"]) + "x" : "");
}

/// Which row was chosen; -1 where the result does not say.
std::int64_t chosen_row(const Json& advice) {
  const bool says = advice.contains("row") && advice["row"].is_number_integer();
  return says ? advice["row"].get<std::int64_t>() : -1;
}

/// What decides, with units; the choice is marked. All else of a candidate is below, in "Rows".
std::string candidates_table(const Json& rows, std::int64_t chosen) {
  struct Column {
    const char* key;
    const char* heading;
    double scale;
  };
  constexpr std::array kColumns = {Column{"tpot_ms", "TPOT, ms", 1},
                                   Column{"tpot_vs_off", "TPOT over EPLB off", 1},
                                   Column{"ttft_ms", "TTFT, ms", 1},
                                   Column{"output_tokens_per_s", "output, tokens/s", 1},
                                   Column{"max_activated", "max activated, experts", 1},
                                   Column{"kv_cost_gb_per_gpu", "replicas, GB per GPU", 1},
                                   Column{"kv_cost_share", "of the KV cache, %", 100}};
  std::vector<std::string> header = {"candidate"};
  for (const Column& column : kColumns) header.emplace_back(column.heading);
  HtmlTable table(std::move(header), true);
  std::int64_t index = 0;
  for (const Json& row : rows) {
    const bool is_chosen = index++ == chosen;
    if (!row.contains("candidate")) continue;
    table.add_row();
    const bool drops = row.contains("eligible") && row["eligible"] == false;
    table.add((is_chosen ? "\u25b6 " : "") + name_of(row), "text",
              is_chosen ? "the advice" : (drops ? "serves less" : ""));
    for (const Column& column : kColumns) {
      const Json value = row.contains(column.key) ? row[column.key] : Json();
      const bool scales = column.scale != 1 && value.is_number();
      table.add(scales ? number_text(column.scale * value.get<double>()) : value_text(value),
                is_chosen ? "better" : "");
    }
  }
  return table.empty() ? "" : "<h3>The candidates</h3>\n" + table.html();
}

/// TPOT of the candidates that could be built.
std::string tpot_plot(const Json& rows, std::int64_t chosen) {
  Plot plot{"Mean TPOT by candidate", "bars", "", "ms", {}, {{"TPOT", {}, {}}}};
  std::int64_t index = 0;
  for (const Json& row : rows) {
    const bool is_chosen = index++ == chosen;
    if (!row.contains("tpot_ms") || !row.contains("candidate")) continue;
    plot.categories.push_back((is_chosen ? "\u25b6 " : "") + name_of(row));
    plot.series.front().y.push_back(row["tpot_ms"].at("mean").get<double>());
  }
  return plot.categories.empty() ? "" : plot_html(plot);
}

/// Throughput over TPOT: the frontier, and what it beats.
std::string frontier_plot(const Json& rows) {
  Plot plot{
      "Throughput and TPOT of the candidates",   "points", "mean TPOT, ms", "output tokens/s", {},
      {{"frontier", {}, {}}, {"beaten", {}, {}}}};
  for (const Json& row : rows) {
    if (!row.contains("frontier") || !row.contains("output_tokens_per_s")) continue;
    PlotSeries& series = plot.series[row["frontier"].get<bool>() ? 0 : 1];
    series.x.push_back(row.at("tpot_ms").at("mean").get<double>());
    series.y.push_back(row["output_tokens_per_s"].get<double>());
  }
  if (plot.series[1].x.empty()) plot.series.pop_back();
  return plot.series[0].x.empty() ? "" : plot_html(plot);
}

}  // namespace

std::vector<Section> advice_sections(const Json& result) {
  const Json& advice = result.contains("advice") ? result["advice"] : result;
  std::string body = verdict(advice);
  if (advice.contains("reasons")) body += paragraphs(advice["reasons"]);
  body += launch_html(advice);
  const std::int64_t chosen = chosen_row(advice);
  body += tpot_plot(result.at("rows"), chosen);
  body += frontier_plot(result.at("rows"));
  body += candidates_table(result.at("rows"), chosen);
  std::vector<Section> sections = {{"The advice", std::move(body)}};
  for (Section& section : plain_sections(result)) sections.push_back(std::move(section));
  return sections;
}

}  // namespace metro::report
