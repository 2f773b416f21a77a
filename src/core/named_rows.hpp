// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace metro {

/// The names of a table whose rows have one.
template <typename Table>
std::vector<std::string_view> row_names(const Table& table) {
  std::vector<std::string_view> names;
  for (const auto& row : table) names.push_back(row.name);
  return names;
}

/// Its rows for help texts, one "name: rule" a line.
template <typename Table>
std::string row_rules(const Table& table) {
  std::string text;
  for (const auto& row : table) {
    if (!text.empty()) text += '\n';
    text.append(row.name).append(": ").append(row.rule);
  }
  return text;
}

}  // namespace metro
