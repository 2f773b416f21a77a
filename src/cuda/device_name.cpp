// SPDX-License-Identifier: Apache-2.0
#include "cuda/device_name.hpp"

#include <cuda_runtime_api.h>

#include "cuda/check.hpp"
#include "metro/error.hpp"

namespace metro::cuda {

std::string device_name() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    throw Error(ErrorCode::kDevice, "--device is cuda, but there is no CUDA device, use cpu");
  }
  int device = 0;
  cudaDeviceProp properties{};
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
  return properties.name;
}

}  // namespace metro::cuda
