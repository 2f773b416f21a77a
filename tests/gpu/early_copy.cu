// SPDX-License-Identifier: Apache-2.0
// Compiled for several architectures; METRO_COPY_KERNEL names the function.
#include "cuda/batch_access.cuh"
#include "gpu/early_kernels.hpp"

namespace metro::test {
namespace {

__global__ void copy(const __grid_constant__ CopyParams params) {
  cuda::wait_for_previous_kernel(params.wait);
  for (int i = static_cast<int>(threadIdx.x); i < params.count; i += static_cast<int>(blockDim.x)) {
    params.to[i] = static_cast<const volatile std::int32_t*>(params.from)[i];
  }
}

}  // namespace

cuda::Kernel METRO_COPY_KERNEL() {
  return {.function = reinterpret_cast<const void*>(&copy), .max_threads = 256, .shared_bytes = 0};
}

}  // namespace metro::test
