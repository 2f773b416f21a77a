// SPDX-License-Identifier: Apache-2.0
#include "names.hpp"

#include <fmt/format.h>

#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace metro::cli {
namespace {

template <typename Table>
std::vector<std::string_view> names_of(const Table& table) {
  std::vector<std::string_view> names;
  for (const auto& row : table) names.push_back(row.name);
  return names;
}

template <typename Table>
std::string describe(const Table& table) {
  std::string text;
  for (const auto& row : table) {
    text += fmt::format("{}{}: {}", text.empty() ? "" : "\n", row.name, row.rule);
  }
  return text;
}

}  // namespace

std::vector<std::string_view> policy_names() { return names_of(policies()); }
std::vector<std::string_view> algorithm_names() { return names_of(placement_algorithms()); }
std::string describe_policies() { return describe(policies()); }
std::string describe_algorithms() { return describe(placement_algorithms()); }

}  // namespace metro::cli
