// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "report/table.hpp"

/// The library's tables of policies and placements, for programs and for people.
namespace metro::report {

/// {"policies": [{"name", "rule", "source", "needs", ...}]}
nlohmann::ordered_json policies_result();
/// {"algorithms": [{"name", "rule", "source", ...}]}
nlohmann::ordered_json algorithms_result();

/// Facts first, then a line a rule: at most 100 columns wide.
std::string policies_table(int width = kAnyWidth);
std::string algorithms_table(int width = kAnyWidth);

/// The same as the tables of docs/policies.md: GitHub's markdown.
std::string policies_markdown();
std::string algorithms_markdown();

}  // namespace metro::report
