// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace metro::report {

/// A table of a page; text is escaped.
class HtmlTable {
 public:
  /// `as_cards`: on a narrow screen each row becomes a card of labelled values.
  explicit HtmlTable(std::vector<std::string> header, bool as_cards = false)
      : header_(std::move(header)), as_cards_(as_cards) {}

  void add_row() { rows_.emplace_back(); }
  /// The next cell of the last row; `kind` is a CSS class ("better", "text", ...) or nothing,
  /// `note` stands below the text, smaller.
  void add(std::string_view text, std::string_view kind = "", std::string_view note = "");

  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  [[nodiscard]] std::string html() const;

 private:
  struct Cell {
    std::string text;
    std::string kind;
    std::string note;
  };
  std::vector<std::string> header_;
  std::vector<std::vector<Cell>> rows_;
  bool as_cards_;
};

/// Four digits are what our figures are good for.
std::string number_text(double value);

/// A value of a result for a cell: numbers by `number_text`, {"mean": ...} by its mean, lists
/// joined by commas, nothing for null.
std::string value_text(const nlohmann::ordered_json& value);

}  // namespace metro::report
