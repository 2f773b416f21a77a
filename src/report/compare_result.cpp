// SPDX-License-Identifier: Apache-2.0
#include "report/compare_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/heat_map.hpp"
#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::report {
namespace {

nlohmann::ordered_json row_json(const TraceComparison& comparison, const CompareRow& row,
                                const CompareSpec& spec) {
  const bool has_ep = !spec.ep.empty();
  nlohmann::ordered_json json = {
      {"trace", comparison.path}, {"algorithm", row.algorithm}, {"gpus", row.gpus}};
  if (has_ep) json["ep"] = row.ep;
  json["replication"] = row.replication;
  json["replicas"] = row.replicas;
  json["tokens"] = row.tokens;
  if (spec.tokens_are_per_gpu) json["tokens_per_gpu"] = row.tokens / row.gpus;
  json["policy"] = row.policy;
  json["max_activated"] = row.max_activated;
  json["max_tokens"] = row.max_tokens;
  json["activated_total"] = row.activated_total;
  json["vs_even"] = row.vs_even;
  json["vs_no_replication"] = row.vs_no_replication;
  json["vs_optimal"] = row.vs_optimal;
  if (has_ep) json["vs_ep"] = row.vs_ep;
  json["no_replication"] = row.no_replication;
  json["worse_than_none"] = row.worse_than_none;
  json["active_experts"] = row.active_experts;
  json["tensor_sharded"] = row.active_experts / row.gpus;
  json["token_imbalance"] = row.token_imbalance;
  if (spec.cost != nullptr) {
    json["modelled"] = row.modelled_us;
    json["modelled_bound"] = row.modelled_bound_us;
  }
  return json;
}

std::string describe(const TraceComparison& comparison) {
  return fmt::format("{}: {}, {}, {} tokens x {} layers, {} experts, top-{}", comparison.path,
                     comparison.info.model, comparison.info.phase, comparison.num_tokens,
                     comparison.num_layers, comparison.info.num_experts, comparison.topk);
}

/// What a table can do without: policies beyond those that pages show, then ratios, then all
/// policies but the even split and the optimum.
std::vector<std::string> spare_columns(const CompareSpec& spec) {
  std::vector<std::string> spare;
  std::vector<std::string> headline;
  for (const std::string& name : spec.policies) {
    if (name == kEvenPolicy || name == kOptimalPolicy) continue;
    const PolicyInfo* policy = find_policy(name);
    (policy != nullptr && policy->headline ? headline : spare).push_back(name);
  }
  spare.emplace_back("optimal/even");
  spare.insert(spare.end(), headline.rbegin(), headline.rend());
  spare.emplace_back("optimal/none");
  return spare;
}

/// The cells that say which grid point a line is of, or what they are.
std::vector<std::string> point_header(const CompareSpec& spec) {
  std::vector<std::string> cells = {"placement", "GPUs"};
  if (!spec.ep.empty()) cells.emplace_back("EP");
  cells.insert(cells.end(), {"replication", "tokens"});
  return cells;
}

std::vector<std::string> point_cells(const CompareSpec& spec, const CompareRow& row) {
  std::vector<std::string> cells = {row.algorithm, fmt::format("{}", row.gpus)};
  if (!spec.ep.empty()) cells.push_back(fmt::format("{}", row.ep));
  cells.insert(cells.end(), {short_number(row.replication), fmt::format("{}", row.tokens)});
  return cells;
}

std::string two_places(double value) { return fmt::format("{:.2f}", value); }

Table activated_table(const CompareSpec& spec, const TraceComparison& comparison) {
  std::vector<std::string> header = point_header(spec);
  header.insert(header.end(), {"moe-TP", "EPLB off"});
  header.insert(header.end(), spec.policies.begin(), spec.policies.end());
  header.insert(header.end(), {"optimal/even", "optimal/none"});
  Table table(header, 1);
  table.may_leave_out(spare_columns(spec));
  const auto& rows = comparison.rows;
  for (std::size_t first = 0; first < rows.size(); first += spec.policies.size()) {
    const CompareRow& row = rows[first];
    std::vector<std::string> cells = point_cells(spec, row);
    cells.push_back(two_places(row.active_experts / row.gpus));
    cells.push_back(two_places(row.no_replication));
    for (std::size_t i = 0; i < spec.policies.size(); ++i) {
      cells.push_back(two_places(rows[first + i].max_activated));
    }
    cells.push_back(two_places(row.vs_even / row.vs_optimal));
    cells.push_back(two_places(row.vs_no_replication / row.vs_optimal));
    table.add_row(std::move(cells));
  }
  return table;
}

Table time_table(const CompareSpec& spec, const TraceComparison& comparison) {
  std::vector<std::string> header = point_header(spec);
  header.insert(header.end(), spec.policies.begin(), spec.policies.end());
  header.emplace_back("bound");
  Table table(header, 1);
  table.may_leave_out(spare_columns(spec));
  const auto& rows = comparison.rows;
  for (std::size_t first = 0; first < rows.size(); first += spec.policies.size()) {
    std::vector<std::string> cells = point_cells(spec, rows[first]);
    for (std::size_t i = 0; i < spec.policies.size(); ++i) {
      cells.push_back(two_places(rows[first + i].modelled_us));
    }
    cells.push_back(two_places(rows[first].modelled_bound_us));
    table.add_row(std::move(cells));
  }
  return table;
}

}  // namespace

std::string short_number(double value) { return fmt::format("{:g}", value); }

nlohmann::ordered_json compare_result(const CompareSpec& spec,
                                      const std::vector<TraceComparison>& comparisons,
                                      const std::vector<std::filesystem::path>& more_inputs) {
  std::vector<std::filesystem::path> inputs;
  for (const TraceComparison& comparison : comparisons) {
    for (auto& file : trace_files(comparison.path)) inputs.push_back(std::move(file));
  }
  inputs.insert(inputs.end(), more_inputs.begin(), more_inputs.end());
  auto result = make_result("compare", Evidence::kSimulated, spec.seed, inputs);
  result["batches"] = spec.batches;
  auto traces = nlohmann::ordered_json::array();
  auto rows = nlohmann::ordered_json::array();
  auto maps = nlohmann::ordered_json::array();
  for (const TraceComparison& comparison : comparisons) {
    traces.push_back({{"path", comparison.path},
                      {"model", comparison.info.model},
                      {"phase", comparison.info.phase},
                      {"source", comparison.info.source},
                      {"licence", comparison.info.licence},
                      {"tokens", comparison.num_tokens},
                      {"layers", comparison.num_layers},
                      {"num_experts", comparison.info.num_experts},
                      {"topk", comparison.topk}});
    for (const CompareRow& row : comparison.rows) {
      rows.push_back(row_json(comparison, row, spec));
    }
    for (const ActivatedMap& map : comparison.maps) {
      const std::string name = std::filesystem::path(comparison.path).stem().string();
      const std::string groups = map.spec.ep == 0 || map.spec.ep == map.spec.gpus
                                     ? ""
                                     : fmt::format(", EP {}", map.spec.ep);
      maps.push_back(
          map_json(fmt::format("{}, {} GPUs{}, {} tokens, {} on {}", name, map.spec.gpus, groups,
                               map.spec.tokens, map.spec.policy, map.spec.algorithm),
                   map));
    }
  }
  result["traces"] = std::move(traces);
  result["rows"] = std::move(rows);
  result["activated_maps"] = std::move(maps);
  return result;
}

std::vector<ActivatedMapSpec> map_specs(const CompareSpec& spec) {
  constexpr double kUsualGpus = 16;
  const auto away = [](double value, double usual) { return std::abs(std::log2(value / usual)); };
  ActivatedMapSpec map;
  map.algorithm = spec.algorithms.back();
  map.gpus = *std::ranges::min_element(spec.gpus, {}, [&](int n) { return away(n, kUsualGpus); });
  map.replication = *std::ranges::max_element(spec.replication);
  const double usual = spec.tokens_are_per_gpu ? 2 : 32;
  map.tokens = *std::ranges::min_element(spec.tokens, {}, [&](int n) { return away(n, usual); }) *
               (spec.tokens_are_per_gpu ? map.gpus : 1);
  if (!spec.ep.empty()) map.ep = *std::ranges::max_element(spec.ep);
  map.batches = spec.batches;
  map.seed = spec.seed;
  std::vector<ActivatedMapSpec> maps;
  for (const std::string_view policy : {kEvenPolicy, kOptimalPolicy}) {
    maps.push_back(map);
    maps.back().policy = policy;
  }
  return maps;
}

std::string compare_table(const CompareSpec& spec, const std::vector<TraceComparison>& comparisons,
                          int width) {
  std::string text = fmt::format(
      "Max activated experts per GPU, mean over layers and {} batches (seed {}); simulated.\n"
      "EPLB off: one replica of each expert. moe-TP: every expert split over all GPUs (active "
      "experts / GPUs).\n",
      spec.batches, spec.seed);
  if (!spec.ep.empty()) {
    text +=
        "EP: groups of GPUs that the experts are spread over. Each GPU of a group holds an equal "
        "part of its\nexperts, and the figures are in whole experts' worth of bytes. EPLB off is "
        "at "
        "EP = GPUs.\n";
  }
  for (const TraceComparison& comparison : comparisons) {
    text += fmt::format("\n{}\n{}", describe(comparison),
                        activated_table(spec, comparison).text(width));
    if (spec.cost == nullptr) continue;
    text += fmt::format("\nModelled us of the slowest GPU, and what no routing is below:\n{}",
                        time_table(spec, comparison).text(width));
  }
  return text;
}

}  // namespace metro::report
