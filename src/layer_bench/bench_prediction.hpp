// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/layer_timing.hpp"
#include "metro/calibration.hpp"
#include "metro/gpu.hpp"

namespace metro::layer_bench {

/// What the cost model says of one row of `metro bench layer`.
struct PredictedLayer {
  const LayerTiming* row;
  double experts_us = 0;  ///< of the slowest rank, mean over the batches
  double layer_us = 0;    ///< gate, routing, permutation and shared expert with it
};

struct SkippedRow {
  std::size_t row = 0;
  std::string why;
};

struct LayerPrediction {
  std::vector<PredictedLayer> rows;  ///< in the file's order; they point into `timings`
  std::vector<SkippedRow> skipped;
};

/// Predicts every row of a benchmark from the batches that it timed: those follow from the seed, so
/// they are drawn, placed and routed again, and every rank's tokens by replica are known. A row
/// whose activated experts come out differently is skipped, as its batches were others. Throws
/// Error{kInput} for timings of a trace, which this cannot draw again.
LayerPrediction predict_layers(const LayerTimings& timings, std::string_view file,
                               const GpuSpec& gpu, const Calibration* calibration);

/// The GPU of a device name such as "NVIDIA H100 80GB HBM3"; nullptr for none that is known.
const GpuSpec* gpu_of_device(std::string_view device);

}  // namespace metro::layer_bench
