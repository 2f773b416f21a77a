// SPDX-License-Identifier: Apache-2.0
#include "report/policies_result.hpp"

#include <fmt/format.h>

#include <vector>

#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "report/table.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;
using Cells = std::vector<std::string>;

std::string yes(bool value) { return value ? "yes" : "-"; }

/// What a policy reads besides a placement's slots.
std::string uses(const PolicyInfo& policy) {
  std::string text;
  const auto add = [&text](bool used, const char* what) {
    if (used) text += (text.empty() ? "" : ",") + std::string(what);
  };
  add(policy.uses_homes, "homes");
  add(policy.uses_shares, "shares");
  add(policy.uses_cost, "cost");
  return text.empty() ? "-" : text;
}

const Cells kPolicyHeader = {"policy", "needs", "splits",   "counts", "uses",
                             "device", "us",    "timed as", "source"};

Cells cells_of(const PolicyInfo& policy) {
  return {std::string(policy.name),
          std::string(to_string(policy.needs)),
          yes(policy.splits()),
          yes(policy.counts_tokens),
          uses(policy),
          yes(policy.device),
          fmt::format("{:g}", policy.route_us),
          std::string(policy.calibration_key),
          std::string(policy.source)};
}

const Cells kAlgorithmHeader = {"placement", "uses loads", "uses groups", "repeats on a GPU",
                                "source"};

Cells cells_of(const PlacementAlgorithm& algorithm) {
  return {std::string(algorithm.name), yes(algorithm.uses_loads), yes(algorithm.uses_groups),
          yes(algorithm.repeats_on_gpu), std::string(algorithm.source)};
}

template <typename Rows>
std::string text_of(const Cells& header, const Rows& rows, int width) {
  Table facts(header, header.size());
  Table rules({header.front(), "rule"}, 2);
  facts.may_leave_out({"timed as", "source", "counts"});
  for (const auto& row : rows) {
    facts.add_row(cells_of(row));
    rules.add_row({std::string(row.name), std::string(row.rule)});
  }
  return facts.text(width) + "\n" + rules.text(width);
}

template <typename Rows>
std::string markdown_of(Cells header, const Rows& rows) {
  std::string text;
  const auto add = [&text](const Cells& cells) {
    for (const std::string& cell : cells) text += fmt::format("| {} ", cell);
    text += "|\n";
  };
  header.emplace_back("rule");
  add(header);
  for (std::size_t i = 0; i < header.size(); ++i) text += "|---";
  text += "|\n";
  for (const auto& row : rows) {
    Cells cells = cells_of(row);
    cells.front() = fmt::format("`{}`", row.name);
    cells.emplace_back(row.rule);
    add(cells);
  }
  return text;
}

}  // namespace

Json policies_result() {
  Json rows = Json::array();
  for (const PolicyInfo& policy : policies()) {
    rows.push_back({{"name", policy.name},
                    {"rule", policy.rule},
                    {"source", policy.source},
                    {"needs", to_string(policy.needs)},
                    {"splits", policy.splits()},
                    {"counts_tokens", policy.counts_tokens},
                    {"single_replica", policy.single_replica},
                    {"uses_homes", policy.uses_homes},
                    {"uses_shares", policy.uses_shares},
                    {"uses_cost", policy.uses_cost},
                    {"device", policy.device},
                    {"headline", policy.headline},
                    {"route_us", policy.route_us},
                    {"calibration_key", policy.calibration_key}});
  }
  return {{"policies", std::move(rows)}};
}

Json algorithms_result() {
  Json rows = Json::array();
  for (const PlacementAlgorithm& algorithm : placement_algorithms()) {
    rows.push_back({{"name", algorithm.name},
                    {"rule", algorithm.rule},
                    {"source", algorithm.source},
                    {"uses_loads", algorithm.uses_loads},
                    {"uses_groups", algorithm.uses_groups},
                    {"repeats_on_gpu", algorithm.repeats_on_gpu}});
  }
  return {{"algorithms", std::move(rows)}};
}

std::string policies_table(int width) { return text_of(kPolicyHeader, policies(), width); }
std::string algorithms_table(int width) {
  return text_of(kAlgorithmHeader, placement_algorithms(), width);
}
std::string policies_markdown() { return markdown_of(kPolicyHeader, policies()); }
std::string algorithms_markdown() { return markdown_of(kAlgorithmHeader, placement_algorithms()); }

}  // namespace metro::report
