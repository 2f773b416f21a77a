// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/kernel_params.hpp"

/// Kernels that start early, or let others do so, to put before and in place of the router's.
namespace metro::test {

/// Lets the next kernel start at once, then takes its time, then writes: what is read without
/// waiting for it is old.
void launch_early_producer(const std::int32_t* from, std::int32_t* to, int count,
                           cudaStream_t stream);

struct CopyParams {
  const std::int32_t* from;
  std::int32_t* to;
  int count;
  bool wait;  ///< for the kernel in front
};
/// The same copying kernel, compiled for compute capability 9.0 and, as PTX, for 8.0.
cuda::Kernel copy_kernel_90();
cuda::Kernel copy_kernel_80();

}  // namespace metro::test
