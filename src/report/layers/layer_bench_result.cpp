// SPDX-License-Identifier: Apache-2.0
#include "report/layers/layer_bench_result.hpp"

#include <fmt/format.h>

#include <cmath>
#include <tuple>

#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::report {
namespace {

using layer_bench::LayerBenchRow;

nlohmann::ordered_json row_json(const LayerBenchRow& row, bool has_ep) {
  nlohmann::ordered_json stages;
  for (const auto& [name, us] : row.stage_us) stages[name] = us;
  if (stages.contains("gate")) stages["gate_topk"] = stages["gate"];  // old spelling
  nlohmann::ordered_json json = {{"model", row.model}, {"gpus", row.gpus}};
  if (has_ep) json["ep"] = row.ep;
  json.update({{"tokens_per_gpu", row.tokens_per_gpu},
               {"replication", row.replication},
               {"replicas", row.replicas},
               {"policy", row.policy},
               {"dispatch", row.dispatch},
               {"experts", row.sharding},
               {"dtype", row.dtype},
               {"kernel", row.kernel},
               {"evidence", row.evidence},
               {"layer_us", row.layer_us},
               {"stage_us", std::move(stages)},
               {"experts_us_per_rank", row.experts_us_per_rank},
               {"max_activated", row.max_activated},
               {"activated_per_rank", row.activated_per_rank},
               {"bytes_per_rank", row.bytes_per_rank},
               {"achieved_gb_s", row.achieved_gb_s},
               {"share_of_copy", row.share_of_copy},
               {"exposed_routing_us", row.exposed_routing_us}});
  return json;
}

bool is_emulated(const layer_bench::LayerBenchResult& result) {
  return !result.rows.empty() && result.rows.front().evidence == "emulated";
}

std::string number(double value, int digits) {
  return std::isnan(value) ? "-" : fmt::format("{:.{}f}", value, digits);
}

double stage(const LayerBenchRow& row, std::string_view name) {
  for (const auto& [stage_name, us] : row.stage_us) {
    if (stage_name == name) return us;
  }
  return layer_bench::kNotMeasured;
}

/// Rows that stand under one heading.
auto heading(const LayerBenchRow& row) {
  return std::tie(row.model, row.gpus, row.dtype, row.kernel, row.dispatch);
}

/// The layer time of the row of that name at the same tokens, which every table has unless it is of
/// moe-TP alone.
double layer_us_of(const std::vector<LayerBenchRow>& rows, const LayerBenchRow& beside,
                   std::string_view policy) {
  for (const LayerBenchRow& row : rows) {
    if (row.policy == policy && row.tokens_per_gpu == beside.tokens_per_gpu &&
        heading(row) == heading(beside)) {
      return row.layer_us;
    }
  }
  return layer_bench::kNotMeasured;
}

std::vector<std::string> cells(const LayerBenchRow& row, const std::vector<LayerBenchRow>& rows) {
  const double none = layer_us_of(rows, row, kEplbOff);
  const double sharded = layer_us_of(rows, row, kMoeTp);
  return {row.policy,
          fmt::format("{}", row.tokens_per_gpu),
          fmt::format("{:g}", row.replication),
          number(row.max_activated, 1),
          number(row.layer_us, 1),
          number(stage(row, "experts"), 1),
          number(stage(row, "route"), 1),
          number(row.exposed_routing_us, 1),
          number(row.achieved_gb_s, 1),
          number(100 * row.share_of_copy, 0),
          number(row.layer_us / none, 2),
          number(row.layer_us / sharded, 2)};
}

}  // namespace

nlohmann::ordered_json layer_bench_result(const layer_bench::LayerBenchOptions& options,
                                          const layer_bench::LayerBenchResult& result,
                                          const std::vector<std::filesystem::path>& inputs) {
  const auto evidence = is_emulated(result) ? Evidence::kEmulated : Evidence::kMeasured;
  auto json = make_result("bench layer", evidence, options.seed, inputs);
  json["device"] = result.device;
  json["transport"] = result.transport;
  json["algorithm"] = options.algorithm;
  json["combine"] = to_string(options.combine);
  json["batches"] = options.batches;
  json["repeats"] = options.repeats;
  json["copy_gb_s"] = result.copy_gb_s;
  auto rows = nlohmann::ordered_json::array();
  for (const LayerBenchRow& row : result.rows) rows.push_back(row_json(row, options.ep > 0));
  json["rows"] = std::move(rows);
  return json;
}

std::string layer_bench_table(const layer_bench::LayerBenchResult& result, int width) {
  std::string text = fmt::format(
      "One MoE layer on {}, {} ranks; {}. Times in us, of the slowest rank.\n"
      "A copy reaches {} GB/s here. EPLB off: no replicas. moe-TP: every expert split over all.\n",
      result.device, result.transport,
      is_emulated(result) ? "emulated: ranks took turns, communication is left out" : "measured",
      number(result.copy_gb_s, 1));
  for (std::size_t i = 0; i < result.rows.size();) {
    const LayerBenchRow& first = result.rows[i];
    Table table({"policy", "tokens/GPU", "replication", "max activated", "layer", "experts",
                 "route", "exposed", "GB/s", "% of copy", "vs EPLB off", "vs moe-TP"},
                1);
    table.may_leave_out({"GB/s", "% of copy", "exposed", "route", "experts", "max activated"});
    for (; i < result.rows.size() && heading(result.rows[i]) == heading(first); ++i) {
      table.add_row(cells(result.rows[i], result.rows));
    }
    text += fmt::format("\n{}, {} GPUs, {}, experts on {}, {}\n{}", first.model, first.gpus,
                        first.dtype, first.kernel, first.dispatch, table.text(width));
  }
  return text;
}

}  // namespace metro::report
