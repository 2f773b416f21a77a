// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <unordered_set>

#include "metro/error.hpp"
#include "report/html_table.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

// The envelope, which every page shows in its own place.
constexpr std::array<std::string_view, 8> kEnvelope = {"format", "version", "command", "evidence",
                                                       "seed",   "inputs",  "rows",    "wall_s"};

/// Of a table: a browser shows no more.
constexpr std::size_t kMaxCells = 4'000'000;

bool is_shown(const Json& value) {
  return value.is_primitive() || (value.is_object() && value.contains("mean"));
}

std::string words(std::string key) {
  std::ranges::replace(key, '_', ' ');
  return key;
}

std::string rows_table(const Json& rows) {
  std::vector<std::string> keys;
  std::unordered_set<std::string> known;
  for (const Json& row : rows) {
    for (const auto& [key, value] : row.items()) {
      if (is_shown(value) && known.insert(key).second) keys.push_back(key);
    }
    if (keys.size() * rows.size() > kMaxCells) {
      throw Error(ErrorCode::kInfeasible,
                  fmt::format("{} rows with {} or more different keys are over {} cells, the most "
                              "that a page has",
                              rows.size(), keys.size(), kMaxCells));
    }
  }
  if (keys.empty()) return "";
  std::vector<std::string> header;
  std::ranges::transform(keys, std::back_inserter(header), words);
  HtmlTable table(std::move(header));
  for (const Json& row : rows) {
    table.add_row();
    for (const std::string& key : keys) {
      const auto found = row.find(key);
      const bool is_text = found != row.end() && found->is_string();
      table.add(found == row.end() ? "" : value_text(*found), is_text ? "text" : "");
    }
  }
  return table.html();
}

/// Single values and objects of them, "tpot mape" and so on.
void add_values(HtmlTable& table, const std::string& prefix, const Json& object) {
  for (const auto& [key, value] : object.items()) {
    const bool is_envelope = prefix.empty() && std::ranges::find(kEnvelope, key) != kEnvelope.end();
    if (is_envelope || value.is_array() || value.is_null()) continue;
    if (value.is_object()) {
      add_values(table, prefix + words(key) + " ", value);
      continue;
    }
    table.add_row();
    table.add(prefix + words(key), "text");
    table.add(value_text(value));
  }
}

}  // namespace

std::vector<Section> plain_sections(const Json& result) {
  std::vector<Section> sections;
  HtmlTable values({"Value", ""});
  add_values(values, "", result);
  // Rows, and other lists of objects, such as `validate`'s "by".
  for (const auto& [key, value] : result.items()) {
    if (key == "inputs" || !value.is_array() || value.empty() || !value.front().is_object())
      continue;
    std::string table = rows_table(value);
    if (!table.empty()) sections.push_back({key == "rows" ? "Rows" : words(key), std::move(table)});
  }
  if (!values.empty()) sections.push_back({"Values", values.html()});
  return sections;
}

}  // namespace metro::report
