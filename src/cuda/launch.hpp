// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {

struct LaunchShape {
  int blocks;
  int threads;
  bool early;  ///< programmatic dependent launch, where the kernel can wait
};

/// The kernel, loaded and allowed all the shared memory that the device has: the limit is the
/// function's, so one router must not lower it for another. Throws Error{kDevice}.
inline Kernel prepared(Kernel kernel) {
  int device = 0;
  int most = 0;
  cudaFuncAttributes attributes{};
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  METRO_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel.function));
  most -= static_cast<int>(attributes.sharedSizeBytes);
  if (kernel.shared_bytes > most) {
    throw Error(ErrorCode::kDevice,
                "the router's kernel needs " + std::to_string(kernel.shared_bytes) +
                    " bytes of shared memory, this device has " + std::to_string(most));
  }
  METRO_CUDA_CHECK(
      cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize, most));
  kernel.waits = has_early_launch(attributes.ptxVersion);
  return kernel;
}

template <class Params>
void launch(const Kernel& kernel, const LaunchShape& shape, const Params& params,
            cudaStream_t stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
  config.blockDim = dim3(static_cast<unsigned>(shape.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(kernel.shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = shape.early && kernel.waits ? 1 : 0;
  void* arguments[] = {const_cast<Params*>(&params)};
  METRO_CUDA_CHECK(cudaLaunchKernelExC(&config, kernel.function, arguments));
}

}  // namespace metro::cuda
