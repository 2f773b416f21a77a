// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>

#include "cuda/device_memory.hpp"
#include "ep/cuda/stream.hpp"

namespace metro::ep::cuda {

/// cuBLAS with a workspace of its own, so that calls allocate nothing and can be captured.
///
/// Belongs to the device that is current when it is made. One stream at a time.
class Blas {
 public:
  /// Throws Error{kDevice} with cuBLAS's words, as all its calls.
  Blas();

  /// out [rows][features] = x [rows][depth] * weights [features][depth]^T, all row-major, summed in
  /// float32.
  void multiply(const __nv_bfloat16* x, const __nv_bfloat16* weights, float* out, int rows,
                int features, int depth, cudaStream_t stream);
  void multiply(const __nv_bfloat16* x, const __nv_bfloat16* weights, __nv_bfloat16* out, int rows,
                int features, int depth, cudaStream_t stream);

 private:
  void multiply(const __nv_bfloat16* x, const __nv_bfloat16* weights, void* out,
                cudaDataType_t out_type, int rows, int features, int depth, cudaStream_t stream);

  metro::cuda::DeviceArray<std::byte> workspace_;  // outlives the handle
  Owned<cublasHandle_t, cublasDestroy> handle_;
};

}  // namespace metro::ep::cuda
