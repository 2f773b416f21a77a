// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "cost/kernel_table.hpp"
#include "metro/calibration.hpp"
#include "metro/gpu.hpp"

namespace metro::cost {

/// Time of collectives between GPUs, some of which share a domain of fast links.
class Network {
 public:
  /// `alpha_scale` is the engine's: its own collectives start sooner than NCCL's.
  Network(const GpuSpec& gpu, int gpus_per_domain, double alpha_scale,
          const Calibration* calibration);

  /// Line of a collective over `ranks` neighbouring GPUs, in microseconds and bytes as
  /// core/kernel_constants.hpp counts them. Crossing domains adds a hop and the network's share of
  /// the bytes.
  [[nodiscard]] AlphaBeta line(Collective collective, int ranks) const;

 private:
  const GpuSpec& gpu_;
  int gpus_per_domain_;
  double alpha_scale_;
  const Calibration* calibration_;
};

}  // namespace metro::cost
