// SPDX-License-Identifier: Apache-2.0
#include "sweep/sweep_result.hpp"

#include <fmt/format.h>

#include <utility>

#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::sweeping {

using Json = nlohmann::ordered_json;

Json sweep_result(const SweepSpec& spec, const Sweep& sweep) {
  Json result = report::make_result("sweep", report::Evidence::kSimulated, spec.seed, sweep.inputs);
  Json grid = Json::object();
  for (const SweepAxis& axis : spec.axes) grid[axis.option] = axis.values;
  result["grid"] = std::move(grid);
  result["rows"] = Json::array();
  for (const SweepRow& row : sweep.rows) result["rows"].push_back(Json::parse(row.json));
  return result;
}

std::string sweep_table(const SweepSpec& spec, const Sweep& sweep, int width) {
  std::vector<std::string> header;
  std::vector<std::size_t> shown;  // axes with several values
  for (std::size_t a = 0; a < spec.axes.size(); ++a) {
    if (spec.axes[a].values.size() == 1) continue;
    shown.push_back(a);
    header.push_back(spec.axes[a].option);
  }
  header.insert(header.end(), {"TTFT ms", "TPOT ms", "output tokens/s/GPU", "max activated", ""});
  report::Table table(header, shown.size());
  table.may_leave_out({"max activated", "TTFT ms"});
  for (const SweepRow& row : sweep.rows) {
    std::vector<std::string> cells;
    for (const std::size_t a : shown) cells.push_back(row.values[a]);
    if (!row.error.empty()) {
      cells.insert(cells.end(), {"-", "-", "-", "-", "infeasible"});
    } else {
      cells.push_back(fmt::format("{:.2f}", row.ttft_ms));
      cells.push_back(fmt::format("{:.3f}", row.tpot_ms));
      cells.push_back(fmt::format("{:.1f}", row.output_tokens_per_s_per_gpu));
      cells.push_back(fmt::format("{:.2f}", row.max_activated));
      cells.emplace_back(row.pareto ? "*" : "");
    }
    table.add_row(std::move(cells));
  }
  return "Simulated; * = on the frontier of mean TPOT against output tokens/s per GPU.\n\n" +
         table.text(width);
}

}  // namespace metro::sweeping
