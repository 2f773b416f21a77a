// SPDX-License-Identifier: Apache-2.0
#include "report/reproduce_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "report/heat_map.hpp"
#include "report/plot.hpp"
#include "report/result.hpp"
#include "report/table.hpp"
#include "reproduce/pairs.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<std::string_view, std::string_view> named(const reproduction::System& system) {
  return {system.key, system.name};
}

constexpr std::array kRivals = {named(reproduction::kNone), named(reproduction::kHome),
                                named(reproduction::kMoeTp), named(reproduction::kOptimal),
                                named(reproduction::kHomed)};

Json row_json(const ReproducedFigure& figure, const ReproducedRow& row) {
  Json beside = Json::object();
  for (const auto& [key, value] : row.beside) beside[key] = value;
  return {{"figure", figure.id},
          {"where", row.where},
          {"quantity", row.quantity},
          {"unit", row.unit},
          {"paper", row.paper.empty() ? Json() : Json(row.paper)},
          {"ours", row.ours},
          {"beside", std::move(beside)},
          {"evidence", to_string(Evidence::kSimulated)}};
}

Json figure_json(const ReproducedFigure& figure) {
  Json plots = Json::array();
  for (const Plot& plot : figure.plots) plots.push_back(plot_json(plot));
  Json maps = Json::array();
  for (const auto& [title, map] : figure.maps) maps.push_back(map_json(title, map));
  return {{"figure", figure.id},
          {"title", figure.title},
          {"note", figure.note},
          {"plots", std::move(plots)},
          {"activated_maps", std::move(maps)}};
}

std::string amount(const ReproducedRow& row, double value) {
  const bool is_change = row.unit == "%" || row.unit == "us";
  return is_change ? fmt::format("{:+.1f}", value) : fmt::format("{:.2f}", value);
}

}  // namespace

std::span<const std::pair<std::string_view, std::string_view>> shown_rivals() noexcept {
  return kRivals;
}

void append_reproduction(Json& result, const ReproduceSpec& spec,
                         const Reproduction& reproduction) {
  result["quick"] = spec.quick;
  result["pairs"] = Json::array();
  for (const ReproducedPair& pair : reproduction.pairs) {
    result["pairs"].push_back({{"name", pair.name}, {"routing", pair.routing}});
  }
  result["rows"] = Json::array();
  result["figures"] = Json::array();
  for (const ReproducedFigure& figure : reproduction.figures) {
    for (const ReproducedRow& row : figure.rows) result["rows"].push_back(row_json(figure, row));
    result["figures"].push_back(figure_json(figure));
  }
}

std::string reproduction_table(const Reproduction& reproduction, int width) {
  std::string text = "Figures of the METRO paper (arXiv 2512.09277), simulated; routing:\n";
  for (const ReproducedPair& pair : reproduction.pairs) {
    text += fmt::format("  {}: {}\n", pair.name, pair.routing);
  }
  text +=
      "Rivals stand in METRO's place: the same quantity over the same baseline. docs/reproduce.md "
      "says what\nthey are, and why ours differs.\n\n";
  std::vector<std::string> header = {"figure", "quantity", "where",   "unit",
                                     "paper",  "ours",     "evidence"};
  for (const auto& [key, name] : kRivals) header.emplace_back(name);
  Table table(std::move(header), 5);
  std::vector<std::string> spare = {
      "evidence", std::string(reproduction::kHome.name), std::string(reproduction::kOptimal.name),
      std::string(reproduction::kMoeTp.name), std::string(reproduction::kHomed.name)};
  table.may_leave_out(std::move(spare));
  for (const ReproducedFigure& figure : reproduction.figures) {
    for (const ReproducedRow& row : figure.rows) {
      std::vector<std::string> cells = {figure.id,
                                        row.quantity,
                                        row.where,
                                        row.unit,
                                        row.paper.empty() ? "-" : row.paper,
                                        amount(row, row.ours),
                                        std::string(to_string(Evidence::kSimulated))};
      for (const auto& [key, name] : kRivals) {
        const auto found =
            std::ranges::find(row.beside, key, &std::pair<std::string, double>::first);
        cells.push_back(found == row.beside.end() ? "" : amount(row, found->second));
      }
      table.add_row(std::move(cells));
    }
  }
  return text + table.text(width);
}

}  // namespace metro::report
