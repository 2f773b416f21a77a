// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <vector>

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

/// A copy of `values` on the device.
template <typename T>
DeviceArray<T> upload(const std::vector<T>& values) {
  auto array = make_device_array<T>(values.size());
  METRO_CUDA_CHECK(
      cudaMemcpy(array.get(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return array;
}

template <typename T>
PinnedArray<T> make_pinned_array(std::size_t count) {
  void* pointer = nullptr;
  METRO_CUDA_CHECK(cudaMallocHost(&pointer, count * sizeof(T)));
  return PinnedArray<T>(static_cast<T*>(pointer));
}

}  // namespace metro::cuda
