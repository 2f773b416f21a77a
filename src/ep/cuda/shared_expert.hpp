// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "cuda/device_memory.hpp"
#include "ep/cuda/blas.hpp"
#include "ep/cuda/layer_weights.hpp"

namespace metro::ep::cuda {

/// The expert that every token goes to, on the token's own rank: SwiGLU by cuBLAS, in bf16.
class SharedExpert {
 public:
  /// Throws Error{kDevice}.
  SharedExpert(int hidden, int intermediate, int max_tokens);

  /// Enqueues `rows` rows of `x`; the result is in `out()`.
  void run(const __nv_bfloat16* x, int rows, const DenseWeights& weights, cudaStream_t stream);

  [[nodiscard]] const __nv_bfloat16* out() const noexcept { return out_.get(); }

 private:
  int hidden_;
  int intermediate_;
  Blas blas_;
  metro::cuda::DeviceArray<__nv_bfloat16> gate_up_;     // [max_tokens][2 * intermediate]
  metro::cuda::DeviceArray<__nv_bfloat16> activation_;  // [max_tokens][intermediate]
  metro::cuda::DeviceArray<__nv_bfloat16> out_;         // [max_tokens][hidden]
};

}  // namespace metro::ep::cuda
