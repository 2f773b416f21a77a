// SPDX-License-Identifier: Apache-2.0
#include "io/csv_row.hpp"

namespace metro::io {
namespace {

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") + 1 - first);
}

/// Index behind the closing quote of the field that `row` opens with one; npos if there is none.
std::size_t quoted_end(std::string_view row) {
  std::size_t at = row.find('"', 1);
  while (at != std::string_view::npos && at + 1 < row.size() && row[at + 1] == '"') {
    at = row.find('"', at + 2);
  }
  return at == std::string_view::npos ? at : at + 1;
}

}  // namespace

bool split_csv_row(std::string_view row, std::vector<std::string_view>& fields) {
  fields.clear();
  for (;;) {
    std::size_t comma = row.find(',');
    const std::size_t first = row.find_first_not_of(" \t");
    if (first != std::string_view::npos && row[first] == '"') {
      row.remove_prefix(first);
      const std::size_t end = quoted_end(row);
      if (end == std::string_view::npos) return false;
      comma = row.find(',', end);
      if (!trim(row.substr(end, comma - end)).empty()) return false;
      fields.push_back(row.substr(1, end - 2));
    } else {
      fields.push_back(trim(row.substr(0, comma)));
    }
    if (comma == std::string_view::npos) return true;
    row.remove_prefix(comma + 1);
  }
}

}  // namespace metro::io
