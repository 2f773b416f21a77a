// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>

#include "report/heat_map.hpp"
#include "report/html.hpp"
#include "report/html_table.hpp"
#include "report/plot.hpp"
#include "report/reproduce_result.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

std::string amount(double value, const std::string& unit) {
  if (unit == "%") return fmt::format("{:+.1f} %", value);
  if (unit == "us") return fmt::format("{:+.1f} us", value);
  if (unit.starts_with("% of")) return fmt::format("{:.1f} %", value);
  if (unit == "x") return fmt::format("{:.2f}x", value);
  return fmt::format("{} {}", number_text(value), unit);
}

/// The paper's words; a bare number gets the unit.
std::string with_unit(const std::string& paper, const std::string& unit) {
  const bool is_number = paper.find_first_not_of("+-.0123456789") == std::string::npos;
  if (!is_number) return paper;
  return unit == "x" ? paper + "x" : paper + " " + (unit.starts_with("%") ? "%" : unit);
}

/// Paper beside ours, and the rivals beside both.
std::string rows_table(const Json& rows) {
  std::vector<std::string> header = {"Quantity", "Paper", "Ours"};
  for (const auto& [key, name] : shown_rivals()) header.emplace_back(name);
  HtmlTable table(std::move(header), true);
  for (const Json& row : rows) {
    const auto unit = row.at("unit").get<std::string>();
    table.add_row();
    table.add(row.at("quantity").get<std::string>(), "text", row.at("where").get<std::string>());
    const Json& paper = row.at("paper");
    table.add(paper.is_null() ? "\u2013" : with_unit(paper.get<std::string>(), unit), "paper");
    table.add(amount(row.at("ours").get<double>(), unit), "ours");
    for (const auto& [key, name] : shown_rivals()) {
      const auto found = row.at("beside").find(key);
      table.add(found == row.at("beside").end() ? "" : amount(found->get<double>(), unit));
    }
  }
  return table.html();
}

}  // namespace

std::vector<Section> reproduce_sections(const Json& result) {
  std::vector<Section> sections;
  std::map<std::string, Json> rows;
  for (const Json& row : result.at("rows")) {
    rows.try_emplace(row.at("figure").get<std::string>(), Json::array())
        .first->second.push_back(row);
  }
  std::string pairs = "<ul>";
  for (const Json& pair : result.at("pairs")) {
    pairs +=
        fmt::format("<li>{}: routing {}</li>\n", escape_html(pair.at("name").get<std::string>()),
                    escape_html(pair.at("routing").get<std::string>()));
  }
  sections.push_back(
      {"What was run",
       pairs +
           "</ul>\n<p class=\"note\">EPLB: its placement and even split. METRO: the paper's greedy "
           "on "
           "EPLB's placement. optimal: the exact minimum there. EPLB off: no replicas. home: "
           "replicas "
           "that decode never uses. homed + optimal: this project's. moe-TP: every expert sharded "
           "over "
           "all GPUs. Rivals stand in METRO's place: the same quantity, the same baseline.</p>\n"});
  for (const Json& figure : result.at("figures")) {
    const auto id = figure.at("figure").get<std::string>();
    const auto title = figure.at("title").get<std::string>();
    std::string body = fmt::format("<p class=\"note\">{}</p>\n",
                                   escape_html(figure.at("note").get<std::string>()));
    if (const auto found = rows.find(id); found != rows.end()) body += rows_table(found->second);
    if (!figure.at("plots").empty()) {
      body += "<div class=\"plots\">\n";
      for (const Json& plot : figure.at("plots")) body += plot_html(read_plot(plot));
      body += "</div>\n";
    }
    if (!figure.at("activated_maps").empty()) body += heat_maps_html(figure.at("activated_maps"));
    Section section{id == "all" ? title : fmt::format("Figure {}: {}", id, title), std::move(body)};
    // What spans figures is what people look for first.
    sections.insert(id == "all" ? sections.begin() : sections.end(), std::move(section));
  }
  return sections;
}

}  // namespace metro::report
