// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "layer_bench/bench_errors.hpp"
#include "layer_bench/bench_prediction.hpp"
#include "metro/gpu.hpp"
#include "report/table.hpp"

namespace metro::report {

/// The result of `metro validate --bench`: the envelope, the errors, and one row a layer.
nlohmann::ordered_json layer_validation_result(const layer_bench::LayerPrediction& prediction,
                                               const layer_bench::LayerComparison& comparison,
                                               const GpuSpec& gpu, std::uint64_t seed,
                                               const std::vector<std::filesystem::path>& inputs);

/// For people: a line a model, dtype and kind of experts.
std::string layer_validation_table(const layer_bench::LayerPrediction& prediction,
                                   const layer_bench::LayerComparison& comparison,
                                   const GpuSpec& gpu, int width = kAnyWidth);

}  // namespace metro::report
