// SPDX-License-Identifier: Apache-2.0
#include "metro/sweep.hpp"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "io/journal.hpp"
#include "metro/error.hpp"
#include "metro/simulate.hpp"
#include "report/simulate_result.hpp"
#include "sim/pareto.hpp"
#include "sweep/grid.hpp"

namespace metro {
namespace {

using Json = nlohmann::ordered_json;
using sweeping::Point;

constexpr std::string_view kJournalFormat = "metro-sweep";
constexpr int kJournalVersion = 2;

/// Bytes that are no UTF-8 (in file names) become U+FFFD.
template <typename Value>
std::string to_line(const Value& value) {
  return value.dump(-1, ' ', false, Value::error_handler_t::replace);
}

/// The row of a point, as JSON. What cannot be built is a row with an "error".
std::string work_out(const SimulationConfig& config, SimulationCache& cache) {
  Json row = Json::object();
  report::append_configuration(row, config);
  try {
    report::append_simulation(row, config, simulate(config, &cache));
  } catch (const Error& error) {
    row["error"] = error.what();
  }
  return to_line(row);
}

/// Takes what the journal holds; the points that it lacks are returned.
std::vector<std::size_t> take_known(const io::Journal* journal, const std::vector<Point>& points,
                                    std::vector<Json>& rows) {
  std::map<std::string, const nlohmann::json*> known;
  if (journal != nullptr) {
    for (const nlohmann::json& entry : journal->entries()) {
      if (entry.contains("point") && entry["point"].is_string() && entry.contains("row") &&
          entry["row"].is_string()) {
        known[entry["point"].get<std::string>()] = &entry["row"];
      }
    }
  }
  std::vector<std::size_t> todo;
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto found = known.find(points[i].key);
    if (found != known.end()) {
      // A row is kept as text, so that its keys and numbers come back as they were.
      rows[i] = Json::parse(found->second->get_ref<const std::string&>(), nullptr, false);
    }
    if (!rows[i].is_object()) todo.push_back(i);
  }
  return todo;
}

std::vector<SweepRow> to_rows(const std::vector<Point>& points, std::vector<Json>& results) {
  std::vector<SweepRow> rows;
  std::vector<ServingTradeOff> served;
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < points.size(); ++i) {
    SweepRow& row = rows.emplace_back();
    row.values = points[i].values;
    const Json& result = results[i];
    if (result.contains("error")) {
      row.error = result["error"].get<std::string>();
      continue;
    }
    row.ttft_ms = result["ttft_ms"]["mean"].get<double>();
    row.tpot_ms = result["tpot_ms"]["mean"].get<double>();
    row.output_tokens_per_s_per_gpu = result["output_tokens_per_s_per_gpu"].get<double>();
    row.max_activated = result["max_activated"].get<double>();
    at.push_back(i);
    served.push_back({row.tpot_ms, row.output_tokens_per_s_per_gpu});
  }
  const std::vector<bool> best = pareto_frontier(served);
  for (std::size_t i = 0; i < at.size(); ++i) rows[at[i]].pareto = best[i];
  for (std::size_t i = 0; i < rows.size(); ++i) {
    results[i]["pareto"] = rows[i].pareto;
    rows[i].json = to_line(results[i]);
  }
  return rows;
}

}  // namespace

Sweep sweep(const SweepSpec& spec, SweepWorkers& workers,
            const std::function<void(std::size_t, std::size_t)>& progress) {
  serving::Files files(spec.calibration_folders);
  const std::vector<Point> points = sweeping::make_points(spec, files);
  std::vector<Json> results(points.size());
  std::vector<std::size_t> todo;
  std::optional<io::Journal> journal;
  if (workers.is_writer()) {
    if (!spec.journal.empty()) journal.emplace(spec.journal, kJournalFormat, kJournalVersion);
    todo = take_known(journal ? &*journal : nullptr, points, results);
  }
  SimulationCache cache;
  std::size_t done = points.size() - todo.size();
  workers.run(
      todo,
      [&](std::size_t i) { return work_out(points[i].arguments.config(files, spec.seed), cache); },
      [&](std::size_t i, const std::string& row) {
        if (journal) {
          journal->append(to_line(nlohmann::json{{"point", points[i].key}, {"row", row}}));
        }
        results[i] = Json::parse(row);
        if (progress) progress(++done, points.size());
      });
  Sweep sweep;
  sweep.inputs = files.inputs();
  if (workers.is_writer()) sweep.rows = to_rows(points, results);
  return sweep;
}

}  // namespace metro
