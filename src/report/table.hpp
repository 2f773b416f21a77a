// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace metro::report {

/// A table may be as wide as it is.
inline constexpr int kAnyWidth = 0;

/// A table for people: columns as wide as their widest cell, right-aligned but for the first
/// `left_columns`.
///
///     Table table({"policy", "tokens", "GB/s"}, 1);
///     table.may_leave_out({"GB/s"});
///     table.add_row({"even", "32", "1900"});
///     std::string text = table.text(80);
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::size_t left_columns = 0)
      : rows_{std::move(header)}, left_columns_(left_columns) {}

  /// Columns that `text` leaves out where there is no room, the least needed first; names that are
  /// no column count for nothing.
  void may_leave_out(std::vector<std::string> columns) { spare_ = std::move(columns); }

  /// As many cells as the header has.
  void add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  /// One line per row, each ending in a newline. Where `width` letters do not suffice, columns are
  /// left out and then long cells of left columns broken; a last line names what was left out.
  [[nodiscard]] std::string text(int width = kAnyWidth) const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::string> spare_;
  std::size_t left_columns_;
};

}  // namespace metro::report
