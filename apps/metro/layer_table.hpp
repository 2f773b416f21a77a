// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ep/layer_bench.hpp"

namespace metro::cli {

/// The result of `metro bench layer`: the envelope, and one row a policy and point. Figures that
/// were not measured are null.
nlohmann::ordered_json layer_result(const ep::LayerBenchOptions& options,
                                    const ep::LayerBenchResult& result,
                                    const std::vector<std::filesystem::path>& inputs);

/// For people: a table for each model, kernel and number of GPUs, one line a row.
std::string layer_table(const ep::LayerBenchResult& result);

}  // namespace metro::cli
