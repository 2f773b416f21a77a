// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "ep/cuda/device_transport.hpp"
#include "layer_bench/bench_grid.hpp"
#include "layer_bench/layer_bench.hpp"

namespace metro::layer_bench::cuda {

/// Times the whole layer, communication included, on real ranks; collective. Every rank gets the
/// rows, and the times in them are those of the slowest.
///
/// `done` is called after each row. Throws Error{kUsage}, {kDevice}.
std::vector<LayerBenchRow> bench_real_ranks(const BenchModel& model,
                                            ep::cuda::DeviceTransport& transport,
                                            const LayerBenchOptions& options, double copy_gb_s,
                                            const std::function<void()>& done);

}  // namespace metro::layer_bench::cuda
