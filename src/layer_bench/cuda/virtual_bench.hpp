// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "layer_bench/bench_grid.hpp"
#include "layer_bench/cuda/weight_sets.hpp"
#include "layer_bench/layer_bench.hpp"

namespace metro::layer_bench::cuda {

/// Times the ranks of a layer one after the other on this GPU: for each rank the whole layer but
/// for communication in a CUDA graph of its own, and its experts alone; the slowest rank counts.
///
/// `done` is called after each row. Throws Error{kUsage} for all-to-all dispatch, {kDevice}.
std::vector<LayerBenchRow> bench_virtual_ranks(const BenchModel& model, int gpus,
                                               const WeightSets& weights,
                                               const LayerBenchOptions& options, double copy_gb_s,
                                               const std::function<void()>& done);

}  // namespace metro::layer_bench::cuda
