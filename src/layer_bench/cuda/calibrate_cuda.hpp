// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>

#include "layer_bench/calibrate.hpp"
#include "metro/ep/transport.hpp"

namespace metro::layer_bench::cuda {

/// Calibrates a GPU, and the collectives of all GPUs at hand: with `ranks`, the processes of a job,
/// of so many; in one process (`ranks` is null), of 2, 4, ... and of all that it sees; on one GPU
/// they are left out. `ranks` end once these are timed, and ranks other than 0 get nothing. Throws
/// Error{kDevice} where there is no GPU.
std::optional<CalibrationRun> calibrate_cuda(const CalibrateOptions& options,
                                             std::unique_ptr<ep::Transport> ranks = nullptr);

}  // namespace metro::layer_bench::cuda
