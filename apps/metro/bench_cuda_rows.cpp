// SPDX-License-Identifier: Apache-2.0
#include "bench_cuda_rows.hpp"

#include <fmt/format.h>

#include <cmath>

#include "metro/policy_names.hpp"
#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::cli {

std::string route_json(const std::vector<RouteRow>& rows, const std::string& device,
                       const CudaBenchOptions& options) {
  auto result = report::make_result("bench route", report::Evidence::kMeasured, options.seed, {});
  result["device"] = device;
  result["algorithm"] = options.algorithm;
  auto list = nlohmann::ordered_json::array();
  for (const RouteRow& row : rows) {
    list.push_back({{"experts", row.shape.experts},
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
  result["rows"] = std::move(list);
  return report::to_text(result);
}

std::string route_text(const std::vector<RouteRow>& rows, const std::string& device) {
  report::Table table({"kernel", "experts", "GPUs", "replicas", "tokens", "top-k", "input",
                       "median us", "max activated", "moves"});
  for (const RouteRow& row : rows) {
    table.add_row({row.kernel, fmt::format("{}", row.shape.experts),
                   fmt::format("{}", row.shape.gpus), fmt::format("{}", row.shape.replicas),
                   fmt::format("{}", row.shape.tokens), fmt::format("{}", row.shape.topk),
                   row.input, fmt::format("{:.2f}", row.median_us),
                   row.max_activated > 0 ? fmt::format("{:.2f}", row.max_activated) : "",
                   row.kernel == kOptimalPolicy ? fmt::format("{:.1f}", row.moves) : ""});
  }
  return fmt::format("One call in a CUDA graph on {}; measured.\n\n{}", device, table.text());
}

}  // namespace metro::cli
