// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <string>

#include "metro/error.hpp"

namespace metro::cuda {

/// Throws Error{kDevice} with CUDA's own words unless the call went well.
inline void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  throw Error(ErrorCode::kDevice, std::string(call) + ": " + cudaGetErrorString(status) + " (" +
                                      cudaGetErrorName(status) + ")");
}

}  // namespace metro::cuda

/// The one way to call the CUDA runtime.
#define METRO_CUDA_CHECK(call) ::metro::cuda::check((call), #call)
