// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "ep/cuda/nccl_transport.hpp"
#include "layer_bench/calibrate.hpp"

namespace metro::layer_bench::cuda {

/// All-gather, reduce-scatter, all-reduce and all-to-all from 1 KB to 64 MB between the ranks of
/// `transport`, inside a CUDA graph, of the slowest rank: points alone. `bytes` is the larger of a
/// rank's two buffers. Collective; every rank gets the same.
std::vector<Calibration::Collective> time_collectives(ep::cuda::NcclTransport& transport,
                                                      bool quick);

}  // namespace metro::layer_bench::cuda
