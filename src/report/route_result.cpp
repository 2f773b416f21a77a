// SPDX-License-Identifier: Apache-2.0
#include "report/route_result.hpp"

#include <fmt/format.h>

#include <cmath>

#include "metro/policy_names.hpp"
#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::report {

using Json = nlohmann::ordered_json;

Json route_result(const RouteBenchSpec& spec, const std::vector<RouteBenchRow>& rows,
                  const std::vector<std::filesystem::path>& inputs) {
  Json result = make_result("bench route", Evidence::kMeasured, spec.seed, inputs);
  result["device"] = "cpu";
  result["algorithm"] = spec.algorithm;
  result["rows"] = Json::array();
  for (const RouteBenchRow& row : rows) {
    result["rows"].push_back({{"experts", row.experts},
                              {"gpus", row.gpus},
                              {"replication", row.replication},
                              {"tokens", row.tokens},
                              {"topk", row.topk},
                              {"policy", row.policy},
                              {"median_ns", row.median_ns},
                              {"vs_hash", row.vs_hash}});
  }
  return result;
}

std::string route_table(const std::vector<RouteBenchRow>& rows, int width) {
  Table table(
      {"experts", "GPUs", "replication", "tokens", "top-k", "policy", "median ns", "vs hash"});
  for (const RouteBenchRow& row : rows) {
    table.add_row({fmt::format("{}", row.experts), fmt::format("{}", row.gpus),
                   fmt::format("{:g}", row.replication), fmt::format("{}", row.tokens),
                   fmt::format("{}", row.topk), row.policy, fmt::format("{:.0f}", row.median_ns),
                   fmt::format("{:.2f}", row.vs_hash)});
  }
  return "CPU time of one call, from top-k ids to replica ids; measured.\n\n" + table.text(width);
}

Json device_route_result(const std::vector<DeviceRouteRow>& rows, std::string_view device,
                         std::string_view algorithm, std::uint64_t seed) {
  Json result = make_result("bench route", Evidence::kMeasured, seed, {});
  result["device"] = device;
  result["algorithm"] = algorithm;
  result["rows"] = Json::array();
  for (const DeviceRouteRow& row : rows) {
    result["rows"].push_back({{"experts", row.shape.experts},
                              {"gpus", row.shape.gpus},
                              {"replicas", row.shape.replicas},
                              {"tokens", row.shape.tokens},
                              {"topk", row.shape.topk},
                              {"input", row.input},
                              {"kernel", row.kernel},
                              {"median_us", std::round(row.median_us * 1000) / 1000},
                              {"max_activated", row.max_activated},
                              {"moves", row.moves}});
  }
  return result;
}

std::string device_route_table(const std::vector<DeviceRouteRow>& rows, std::string_view device,
                               int width) {
  Table table({"kernel", "experts", "GPUs", "replicas", "tokens", "top-k", "input", "median us",
               "max activated", "moves"});
  table.may_leave_out({"moves", "top-k", "replicas"});
  for (const DeviceRouteRow& row : rows) {
    table.add_row({row.kernel, fmt::format("{}", row.shape.experts),
                   fmt::format("{}", row.shape.gpus), fmt::format("{}", row.shape.replicas),
                   fmt::format("{}", row.shape.tokens), fmt::format("{}", row.shape.topk),
                   row.input, fmt::format("{:.2f}", row.median_us),
                   row.max_activated > 0 ? fmt::format("{:.2f}", row.max_activated) : "",
                   row.kernel == kOptimalPolicy ? fmt::format("{:.1f}", row.moves) : ""});
  }
  return fmt::format("One call in a CUDA graph on {}; measured.\n\n{}", device, table.text(width));
}

}  // namespace metro::report
