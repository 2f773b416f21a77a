// SPDX-License-Identifier: Apache-2.0
#include "report/plot.hpp"

#include <fmt/format.h>

#include <cstddef>
#include <vector>

#include "report/html.hpp"
#include "report/html_table.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

std::string category_table(const Plot& plot) {
  std::vector<std::string> header = {plot.x_label};
  for (const PlotSeries& series : plot.series) header.push_back(series.name);
  HtmlTable table(std::move(header));
  for (std::size_t c = 0; c < plot.categories.size(); ++c) {
    table.add_row();
    table.add(plot.categories[c]);
    for (const PlotSeries& series : plot.series) {
      table.add(c < series.y.size() ? number_text(series.y[c]) : "");
    }
  }
  return table.html();
}

std::string point_table(const Plot& plot) {
  HtmlTable table({"", plot.x_label, plot.y_label});
  for (const PlotSeries& series : plot.series) {
    for (std::size_t i = 0; i < series.y.size() && i < series.x.size(); ++i) {
      table.add_row();
      table.add(series.name);
      table.add(number_text(series.x[i]));
      table.add(number_text(series.y[i]));
    }
  }
  return table.html();
}

}  // namespace

Json plot_json(const Plot& plot) {
  Json series = Json::array();
  for (const PlotSeries& one : plot.series) {
    Json json = {{"name", one.name}};
    if (!one.x.empty()) json["x"] = one.x;
    json["y"] = one.y;
    series.push_back(std::move(json));
  }
  return {{"title", plot.title},           {"kind", plot.kind},
          {"x_label", plot.x_label},       {"y_label", plot.y_label},
          {"categories", plot.categories}, {"series", std::move(series)}};
}

Plot read_plot(const Json& json) {
  Plot plot;
  json.at("title").get_to(plot.title);
  json.at("kind").get_to(plot.kind);
  json.at("x_label").get_to(plot.x_label);
  json.at("y_label").get_to(plot.y_label);
  json.at("categories").get_to(plot.categories);
  for (const Json& one : json.at("series")) {
    PlotSeries& series = plot.series.emplace_back();
    one.at("name").get_to(series.name);
    if (one.contains("x")) one.at("x").get_to(series.x);
    one.at("y").get_to(series.y);
  }
  return plot;
}

std::string plot_html(const Plot& plot) {
  const std::string title = escape_html(plot.title);
  return fmt::format(
      "<figure class=\"plot\"><figcaption>{}</figcaption><div class=\"plot-box\"><canvas "
      "role=\"img\" aria-label=\"{}\"></canvas></div>\n<details><summary>As a "
      "table</summary>\n{}</details><script type=\"application/json\">{}</script></figure>\n",
      title, title, plot.categories.empty() ? point_table(plot) : category_table(plot),
      script_json(plot_json(plot)));
}

}  // namespace metro::report
