// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "core/vocabulary.hpp"
#include "report/html.hpp"
#include "report/html_table.hpp"
#include "report/plot.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

/// A reason, or several, as paragraphs.
std::string paragraphs(const Json& reasons) {
  if (reasons.is_string()) {
    return fmt::format("<p>{}</p>\n", escape_html(reasons.get<std::string>()));
  }
  std::string html;
  for (const Json& reason : reasons) html += paragraphs(reason);
  return html;
}

/// "do not replicate", or how to.
std::string verdict(const Json& advice) {
  if (!advice.contains("replicate")) return "";
  std::string text = "Do not replicate.";
  if (advice["replicate"].get<bool>()) {
    text =
        fmt::format("Replicate {}x, placement {}, policy {}.", value_text(advice.at("replication")),
                    value_text(advice.at("algorithm")), value_text(advice.at("policy")));
  } else if (is_moe_tp(advice.value("experts", ""))) {
    text = "Do not replicate; shard every expert over all GPUs (moe-TP).";
  }
  return fmt::format("<p class=\"verdict\">{}</p>\n", escape_html(text));
}

/// TPOT of the candidates that could be built.
std::string tpot_plot(const Json& rows) {
  Plot plot{"Mean TPOT by candidate", "bars", "", "ms", {}, {{"TPOT", {}, {}}}};
  for (const Json& row : rows) {
    if (!row.contains("tpot_ms") || !row.contains("candidate")) continue;
    const bool replicates = row.contains("replication") && row["replication"] != 1.0;
    plot.categories.push_back(value_text(row["candidate"]) +
                              (replicates ? " " + value_text(row["replication"]) + "x" : ""));
    plot.series.front().y.push_back(row["tpot_ms"].at("mean").get<double>());
  }
  return plot.categories.empty() ? "" : plot_html(plot);
}

}  // namespace

std::vector<Section> advice_sections(const Json& result) {
  const Json& advice = result.contains("advice") ? result["advice"] : result;
  std::string body = verdict(advice);
  if (advice.contains("reasons")) body += paragraphs(advice["reasons"]);
  body += tpot_plot(result.at("rows"));
  std::vector<Section> sections = {{"The advice", std::move(body)}};
  for (Section& section : plain_sections(result)) sections.push_back(std::move(section));
  return sections;
}

}  // namespace metro::report
