// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>

#include "report/html.hpp"
#include "report/html_table.hpp"
#include "report/plot.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

/// Rows that a plot shows together: all policies at one point.
struct Group {
  std::string title;
  std::vector<const Json*> rows;
};

std::string point_of(const Json& row) {
  return fmt::format("{}, {} GPUs, {}, {} tokens per GPU", value_text(row.at("model")),
                     value_text(row.at("gpus")), value_text(row.at("dtype")),
                     value_text(row.at("tokens_per_gpu")));
}

std::string bar_of(const Json& row) {
  const double replication = row.at("replication").get<double>();
  const auto policy = row.at("policy").get<std::string>();
  return replication > 1 ? fmt::format("{} {:g}x", policy, replication) : policy;
}

std::vector<Group> groups_of(const Json& rows) {
  std::vector<Group> groups;
  for (const Json& row : rows) {
    const std::string title = point_of(row);
    auto group = std::ranges::find(groups, title, &Group::title);
    if (group == groups.end()) {
      groups.push_back({title, {}});
      group = groups.end() - 1;
    }
    group->rows.push_back(&row);
  }
  return groups;
}

/// 0 for a stage that the row has not, or that was not measured.
double stage_us(const Json& row, const std::string& stage) {
  const Json& stages = row.at("stage_us");
  const auto found = stages.find(stage);
  return found == stages.end() || found->is_null() ? 0 : found->get<double>();
}

Plot stage_plot(const Group& group) {
  Plot plot{group.title, "stacked", "", "us, slowest rank", {}, {}};
  for (const Json* row : group.rows) plot.categories.push_back(bar_of(*row));
  const Json& stages = group.rows.front()->at("stage_us");
  for (const auto& [stage, unused] : stages.items()) {
    if (stage == "gate_topk" && stages.contains("gate")) continue;  // its old spelling
    PlotSeries series{stage, {}, {}};
    for (const Json* row : group.rows) series.y.push_back(stage_us(*row, stage));
    if (std::ranges::any_of(series.y, [](double us) { return us > 0; })) {
      plot.series.push_back(std::move(series));
    }
  }
  return plot;
}

}  // namespace

std::vector<Section> layer_sections(const Json& result) {
  std::string body = fmt::format(
      "<p class=\"note\">{}, placement {}. EPLB off: no replicas; moe-TP: every expert "
      "split over all ranks.</p>\n<div class=\"plots\">\n",
      escape_html(value_text(result.at("device"))),
      escape_html(value_text(result.at("algorithm"))));
  HtmlTable table({"Point", "Policy", "Max activated", "Layer, us", "Experts, us", "Routing, us"});
  for (const Group& group : groups_of(result.at("rows"))) {
    body += plot_html(stage_plot(group));
    for (const Json* row : group.rows) {
      table.add_row();
      table.add(group.title, "text");
      table.add(bar_of(*row), "text");
      for (const Json& value :
           {row->at("max_activated"), row->at("layer_us"), row->at("stage_us").at("experts"),
            row->at("stage_us").at("route")}) {
        table.add(value_text(value));
      }
    }
  }
  return {{"Where a layer's time goes, by policy", body + "</div>\n" + table.html()}};
}

}  // namespace metro::report
