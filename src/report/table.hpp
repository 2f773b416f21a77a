// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace metro::report {

/// A table for people: columns as wide as their widest cell, right-aligned but for the first
/// `left_columns`.
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::size_t left_columns = 0)
      : rows_{std::move(header)}, left_columns_(left_columns) {}

  /// As many cells as the header has.
  void add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  /// One line per row, each ending in a newline.
  [[nodiscard]] std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::size_t left_columns_;
};

}  // namespace metro::report
