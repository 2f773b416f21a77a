// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>

#include "ep/cuda/layer_weights.hpp"
#include "metro/model.hpp"

namespace metro::ep::cuda {

/// How an expert's weights lie (see SlotWeights).
struct WeightShape {
  int hidden;
  int intermediate;
  DataType weights;  ///< bf16 or fp8
};

/// What Hopper's copy engine must know of an expert's matrices. It brings 64 rows of 128 bytes at a
/// time: of gate_up, 8 rows of the gate and the same 8 of the up projection by turns.
struct alignas(128) WeightMaps {
  CUtensorMap gate_up;
  CUtensorMap down;
};

/// Whether the current device has such an engine, and its driver makes maps.
bool has_weight_maps();

/// For matrices that lie on 16 bytes. Throws Error{kDevice}.
WeightMaps make_weight_maps(const WeightShape& shape, const ExpertPointers& expert);

}  // namespace metro::ep::cuda
