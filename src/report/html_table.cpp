// SPDX-License-Identifier: Apache-2.0
#include "report/html_table.hpp"

#include <fmt/format.h>

#include <cmath>

#include "report/html.hpp"

namespace metro::report {

void HtmlTable::add(std::string_view text, std::string_view kind, std::string_view note) {
  rows_.back().push_back({std::string(text), std::string(kind), std::string(note)});
}

std::string HtmlTable::html() const {
  std::string html = fmt::format("<div class=\"scroll\" tabindex=\"0\"><table{}><thead><tr>",
                                 as_cards_ ? " class=\"cards\"" : "");
  for (const std::string& name : header_) {
    html += fmt::format("<th scope=\"col\">{}</th>", escape_html(name));
  }
  html += "</tr></thead><tbody>\n";
  for (const auto& row : rows_) {
    html += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string kind =
          row[i].kind.empty() ? "" : fmt::format(" class=\"{}\"", escape_html(row[i].kind));
      const std::string label =
          as_cards_ ? fmt::format(" data-label=\"{}\"", escape_html(header_[i])) : "";
      std::string text = escape_html(row[i].text);
      if (!row[i].note.empty()) {
        text += fmt::format("<span class=\"below\">{}</span>", escape_html(row[i].note));
      }
      html += i == 0 ? fmt::format("<th scope=\"row\"{}{}>{}</th>", kind, label, text)
                     : fmt::format("<td{}{}>{}</td>", kind, label, text);
    }
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string number_text(double value) {
  if (value == std::round(value) && std::abs(value) < 1e15) return fmt::format("{:.0f}", value);
  const double size = std::abs(value);
  if (size >= 1000) return fmt::format("{:.0f}", value);
  return size < 1e-3 ? fmt::format("{:.2e}", value) : fmt::format("{:.4g}", value);
}

std::string value_text(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number()) return number_text(value.get<double>());
  if (value.is_object()) return value.contains("mean") ? value_text(value["mean"]) : "";
  std::string text;
  for (const auto& element : value) text += (text.empty() ? "" : ", ") + value_text(element);
  return text;
}

}  // namespace metro::report
