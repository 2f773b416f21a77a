// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/device_memory.hpp"
#include "ep/cuda/blas.hpp"
#include "ep/cuda/topk_kernel.hpp"
#include "metro/ep/layer_config.hpp"

namespace metro::ep::cuda {

/// Experts of each token and their weights: a product with the gate's matrix, then top-k.
///
/// Only enqueues; launch shapes depend on the padded rows alone. The same rows give the same bits
/// in every call and on every GPU of one model. Belongs to the device that is current when it is
/// made.
class Gate {
 public:
  /// Throws Error{kUsage} for more than 1,024 experts, top-32 or 32 groups; {kDevice}.
  Gate(const LayerShape& shape, int max_rows);

  /// `matrix` [experts][hidden]; `x` [rows][hidden]; `forced_ids` as in TopkParams.
  void choose(const __nv_bfloat16* x, const __nv_bfloat16* matrix, const PaddedRows& rows,
              const std::int32_t* forced_ids, std::int32_t* ids, float* weights,
              cudaStream_t stream);

 private:
  LayerShape shape_;
  Blas blas_;
  metro::cuda::DeviceArray<float> logits_;  // [max_rows][experts]
};

}  // namespace metro::ep::cuda
