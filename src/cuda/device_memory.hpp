// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>

#include "cuda/check.hpp"

namespace metro::cuda {

struct FreeDevice {
  void operator()(void* pointer) const noexcept { cudaFree(pointer); }
};
struct FreePinned {
  void operator()(void* pointer) const noexcept { cudaFreeHost(pointer); }
};

template <typename T>
using DeviceArray = std::unique_ptr<T[], FreeDevice>;
template <typename T>
using PinnedArray = std::unique_ptr<T[], FreePinned>;

/// Device memory, all bytes zero.
template <typename T>
DeviceArray<T> make_device_array(std::size_t count) {
  void* pointer = nullptr;
  METRO_CUDA_CHECK(cudaMalloc(&pointer, count * sizeof(T)));
  DeviceArray<T> array(static_cast<T*>(pointer));
  METRO_CUDA_CHECK(cudaMemset(pointer, 0, count * sizeof(T)));
  // cudaMemset may return before it is done, and streams need not wait for it.
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  return array;
}

template <typename T>
PinnedArray<T> make_pinned_array(std::size_t count) {
  void* pointer = nullptr;
  METRO_CUDA_CHECK(cudaMallocHost(&pointer, count * sizeof(T)));
  return PinnedArray<T>(static_cast<T*>(pointer));
}

}  // namespace metro::cuda
