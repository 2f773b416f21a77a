// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"

namespace metro::test {

/// A test that needs a GPU; it is skipped, and says so, where none is.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) GTEST_SKIP() << "no CUDA device";
  }
};

/// Instances per policy: METRO_GPU_INSTANCES, 100,000 unless told (compute-sanitizer: 200).
inline std::int64_t num_gpu_instances() {
  const char* text = std::getenv("METRO_GPU_INSTANCES");
  return text == nullptr ? 100'000 : std::stoll(text);
}

class Stream {
 public:
  Stream() { METRO_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  operator cudaStream_t() const { return stream_; }  // NOLINT: as CUDA's own functions take it
  void wait() const { METRO_CUDA_CHECK(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

/// An array on the device, filled and read through the host.
template <typename T>
class DeviceVector {
 public:
  explicit DeviceVector(std::size_t size)
      : size_(size), data_(cuda::make_device_array<T>(size == 0 ? 1 : size)) {}
  explicit DeviceVector(const std::vector<T>& values) : DeviceVector(values.size()) {
    fill(values);
  }

  [[nodiscard]] T* data() const { return data_.get(); }

  void fill(const std::vector<T>& values) {
    METRO_CUDA_CHECK(
        cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> values(size_);
    METRO_CUDA_CHECK(cudaMemcpy(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t size_;
  cuda::DeviceArray<T> data_;
};

/// A captured stream of work, to be replayed.
class Graph {
 public:
  template <typename Work>
  Graph(cudaStream_t stream, Work work) {
    METRO_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    work();
    cudaGraph_t graph = nullptr;
    METRO_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    METRO_CUDA_CHECK(cudaGraphInstantiate(&executable_, graph, 0));
    METRO_CUDA_CHECK(cudaGraphDestroy(graph));
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void launch(cudaStream_t stream) const { METRO_CUDA_CHECK(cudaGraphLaunch(executable_, stream)); }

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace metro::test
