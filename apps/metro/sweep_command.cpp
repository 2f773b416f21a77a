// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "command.hpp"
#include "io/journal.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/simulate.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "report/simulate_result.hpp"
#include "report/table.hpp"
#include "serving_options.hpp"
#include "sim/pareto.hpp"
#include "sweep_workers.hpp"

namespace metro::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kJournalFormat = "metro-sweep";
constexpr int kJournalVersion = 2;
constexpr std::size_t kMaxPoints = 1'000'000;

/// An option of `simulate` with the values it takes in the grid, as written.
struct Axis {
  std::string name;
  std::vector<std::string> values;
};

struct SweepOptions : CommonOptions {
  std::vector<std::pair<std::string, std::unique_ptr<std::string>>> lists;  ///< option, "a,b,..."
  int jobs = 0;
  std::filesystem::path journal;
};

/// One configuration of the grid.
struct Point {
  std::vector<std::string> values;  ///< of the axes
  ServingOptions options;
  std::string key;  ///< what its result hangs on, files' bytes included
};

std::vector<Axis> axes_of(const SweepOptions& options) {
  std::vector<Axis> axes;
  for (const auto& [name, text] : options.lists) {
    if (text->empty()) continue;
    Axis& axis = axes.emplace_back(Axis{name, {}});
    for (std::size_t begin = 0; begin <= text->size();) {
      const std::size_t comma = std::min(text->find(',', begin), text->size());
      axis.values.push_back(text->substr(begin, comma - begin));
      begin = comma + 1;
    }
  }
  std::size_t points = 1;
  for (const Axis& axis : axes) {
    points *= axis.values.size();
    if (points > kMaxPoints) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("the grid has over {} points, must be fewer", kMaxPoints));
    }
  }
  return axes;
}

/// Values of point number `index`; the last axis varies fastest.
std::vector<std::string> values_at(const std::vector<Axis>& axes, std::size_t index) {
  std::vector<std::string> values(axes.size());
  for (std::size_t i = axes.size(); i-- > 0;) {
    values[i] = axes[i].values[index % axes[i].values.size()];
    index /= axes[i].values.size();
  }
  return values;
}

/// Parses one point as `simulate` would: its options, its checks, its messages.
ServingOptions parse_point(const std::vector<Axis>& axes, const std::vector<std::string>& values) {
  CLI::App app;
  ServingOptions options;
  add_serving_options(app, options);
  std::vector<std::string> arguments;  // CLI11 takes them last first
  for (std::size_t i = axes.size(); i-- > 0;) {
    arguments.push_back(values[i]);
    arguments.push_back(axes[i].name);
  }
  try {
    app.parse(arguments);
  } catch (const CLI::ParseError& error) {
    throw Error(ErrorCode::kUsage, fmt::format("{}, see 'metro sweep --help'", error.what()));
  }
  check_serving_options(options);
  return options;
}

std::vector<Point> make_points(const std::vector<Axis>& axes, std::uint64_t seed,
                               ServingFiles& files) {
  std::size_t count = 1;
  for (const Axis& axis : axes) count *= axis.values.size();
  std::vector<Point> points;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<std::string> values = values_at(axes, i);
    ServingOptions options = parse_point(axes, values);
    points.push_back({std::move(values), std::move(options), ""});
  }
  // Files are opened once no option is at fault, and all of them before threads ask for them.
  for (const Point& point : points) files.config(point.options, seed).validate();
  std::string hashes;
  for (const auto& path : files.inputs()) hashes += " " + io::sha256_file(path);
  for (Point& point : points) {
    point.key = fmt::format("{}seed {}{}", METRO_VERSION " ", seed, hashes);
    for (std::size_t a = 0; a < axes.size(); ++a) {
      point.key += fmt::format(" {} {}", axes[a].name, point.values[a]);
    }
  }
  return points;
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
  return row.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void mark_frontier(std::vector<Json>& rows) {
  std::vector<ServingTradeOff> served;
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i]["pareto"] = false;
    if (rows[i].contains("error")) continue;
    at.push_back(i);
    served.push_back({rows[i]["tpot_ms"]["mean"].get<double>(),
                      rows[i]["output_tokens_per_s_per_gpu"].get<double>()});
  }
  const std::vector<bool> best = pareto_frontier(served);
  for (std::size_t i = 0; i < at.size(); ++i) rows[at[i]]["pareto"] = best[i] == true;
}

std::string to_table(const std::vector<Axis>& axes, const std::vector<Point>& points,
                     const std::vector<Json>& rows) {
  std::vector<std::string> header;
  std::vector<std::size_t> shown;  // axes with several values
  for (std::size_t a = 0; a < axes.size(); ++a) {
    if (axes[a].values.size() == 1) continue;
    shown.push_back(a);
    header.push_back(axes[a].name.substr(2));
  }
  header.insert(header.end(), {"TTFT ms", "TPOT ms", "output tokens/s/GPU", "max activated", ""});
  report::Table table(header, shown.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::vector<std::string> cells;
    for (const std::size_t a : shown) cells.push_back(points[i].values[a]);
    const Json& row = rows[i];
    if (row.contains("error")) {
      cells.insert(cells.end(), {"-", "-", "-", "-", "infeasible"});
    } else {
      cells.push_back(fmt::format("{:.2f}", row["ttft_ms"]["mean"].get<double>()));
      cells.push_back(fmt::format("{:.3f}", row["tpot_ms"]["mean"].get<double>()));
      cells.push_back(fmt::format("{:.1f}", row["output_tokens_per_s_per_gpu"].get<double>()));
      cells.push_back(fmt::format("{:.2f}", row["max_activated"].get<double>()));
      cells.push_back(row["pareto"].get<bool>() ? "*" : "");
    }
    table.add_row(std::move(cells));
  }
  return "Simulated; * = on the frontier of mean TPOT against output tokens/s per GPU.\n\n" +
         table.text();
}

/// Works out what the journal does not hold yet, and adds it there.
std::vector<Json> work_out_all(const std::vector<Point>& points, const SweepOptions& options,
                               ServingFiles& files, SweepWorkers& workers) {
  std::vector<Json> rows(points.size());
  std::vector<std::size_t> todo;
  std::optional<io::Journal> journal;
  if (workers.is_writer()) {
    std::map<std::string, const nlohmann::json*> known;
    if (!options.journal.empty()) {
      journal.emplace(options.journal, kJournalFormat, kJournalVersion);
      for (const nlohmann::json& entry : journal->entries()) {
        if (entry.contains("point") && entry["point"].is_string() && entry.contains("row") &&
            entry["row"].is_string()) {
          known[entry["point"].get<std::string>()] = &entry["row"];
        }
      }
    }
    for (std::size_t i = 0; i < points.size(); ++i) {
      const auto found = known.find(points[i].key);
      if (found == known.end()) {
        todo.push_back(i);
      } else {
        // A row is kept as text, so that its keys and numbers come back as they were.
        rows[i] = Json::parse(found->second->get_ref<const std::string&>(), nullptr, false);
        if (!rows[i].is_object()) todo.push_back(i);
      }
    }
  }
  SimulationCache cache;
  Progress progress("metro: sweeping");
  std::size_t done = points.size() - todo.size();
  workers.run(
      todo, options.jobs,
      [&](std::size_t i) { return work_out(files.config(points[i].options, options.seed), cache); },
      [&](std::size_t i, const std::string& row) {
        if (journal) {
          journal->append(nlohmann::json{{"point", points[i].key}, {"row", row}}.dump(
              -1, ' ', false, nlohmann::json::error_handler_t::replace));
        }
        rows[i] = Json::parse(row);
        progress.show(++done, points.size());
      });
  return rows;
}

void run(const SweepOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<Axis> axes = axes_of(options);
  ServingFiles files;
  const std::vector<Point> points = make_points(axes, options.seed, files);
  SweepWorkers workers;
  std::vector<Json> rows = work_out_all(points, options, files, workers);
  if (!workers.is_writer()) return;
  mark_frontier(rows);
  if (!options.json) {
    print(to_table(axes, points, rows));
    return;
  }
  auto result =
      report::make_result("sweep", report::Evidence::kSimulated, options.seed, files.inputs());
  Json grid = Json::object();
  for (const Axis& axis : axes) grid[axis.name.substr(2)] = axis.values;
  result["grid"] = std::move(grid);
  result["rows"] = std::move(rows);
  const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
  result["wall_s"] = wall.count();
  print(report::to_text(result));
}

}  // namespace

void add_sweep(CLI::App& app) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App* command =
      add_command(app, "sweep",
                  "Simulate every combination of comma-separated options; mark the best", *options);
  // The options of `simulate`, each as a list; the values are checked point by point.
  CLI::App simulate;
  ServingOptions unused;
  add_serving_options(simulate, unused);
  for (const CLI::Option* option : simulate.get_options()) {
    const std::string name = option->get_name();
    if (name == "--help") continue;
    auto& [_, text] = options->lists.emplace_back(name, std::make_unique<std::string>());
    command->add_option(name, *text, option->get_description())
        ->type_name(option->get_type_name() + ",...")
        ->required(option->get_required());
  }
  add_int(*command, "--jobs", options->jobs, {.min = 1, .max = 4096},
          "Points worked out at once (default: one per core)");
  add_path(*command, "-o,--output", options->journal,
           "Keep finished points in this file, and go on from what it holds");
  command->footer(
      "Under mpirun the ranks share out the points, and the first one writes.\n"
      "Example: metro sweep --model DeepSeek-V3 --gpu h200 --gpus 8,16 --replication 1,1.25 "
      "--isl 1024 --osl 1024 --num-requests 500 --concurrency 64,256 -o sweep.jsonl");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
