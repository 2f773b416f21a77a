// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "layer_bench/calibrate.hpp"

namespace metro::layer_bench::cuda {

/// Calibrates the current GPU, and the collectives of all GPUs at hand: started as several
/// processes (world_from_environment), of so many; in one process, of 2, 4, ... and of all that it
/// sees; on one GPU they are left out. Nothing on ranks other than 0. Throws Error{kDevice} where
/// there is no GPU.
std::optional<CalibrationRun> calibrate_cuda(const CalibrateOptions& options);

}  // namespace metro::layer_bench::cuda
