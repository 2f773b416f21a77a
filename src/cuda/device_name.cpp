// SPDX-License-Identifier: Apache-2.0
#include "cuda/device_name.hpp"

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"
#include "metro/error.hpp"

namespace metro::cuda {

bool has_device() noexcept {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

std::string device_name() {
  if (!has_device()) throw Error(ErrorCode::kDevice, "there is no CUDA device");
  int device = 0;
  cudaDeviceProp properties{};
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return properties.name;
}

}  // namespace metro::cuda
