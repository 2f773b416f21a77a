// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "layer_bench/layer_bench.hpp"
#include "report/table.hpp"

namespace metro::report {

/// The result of `metro bench layer`: the envelope, and one row a policy and point. Figures that
/// were not measured are null.
nlohmann::ordered_json layer_bench_result(const layer_bench::LayerBenchOptions& options,
                                          const layer_bench::LayerBenchResult& result,
                                          const std::vector<std::filesystem::path>& inputs);

/// For people: a table for each model, kernel and number of GPUs, one line a row.
std::string layer_bench_table(const layer_bench::LayerBenchResult& result, int width = kAnyWidth);

}  // namespace metro::report
