// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ep/cuda/stream.hpp"

namespace metro::layer_bench::cuda {

double median(std::vector<double> values);
double mean(const std::vector<double>& values);

/// Of the current device.
std::size_t l2_cache_bytes();

/// Rate of a large device-to-device copy, bytes read and written, GB/s (10^9). Takes up to 4 GB of
/// memory for its time.
double measure_copy_gb_s(cudaStream_t stream);

/// Times pieces of a stream without stopping it in between: the device always has the next piece
/// before it ends one, so that no host latency is measured.
class StreamClock {
 public:
  explicit StreamClock(cudaStream_t stream) : stream_(stream) {}

  /// Enqueues `work()`; its time will be in entry `cell` of `read`.
  template <typename Work>
  void time(std::size_t cell, Work&& work) {
    Lap& lap = next(cell);
    lap.begin.record(stream_);
    std::forward<Work>(work)();
    lap.end.record(stream_);
  }

  /// The median of each cell's times, NaN for one without any, once the stream is done. Starts
  /// anew.
  std::vector<double> read(std::size_t num_cells);

 private:
  struct Lap {
    ep::cuda::Event begin{true};
    ep::cuda::Event end{true};
    std::size_t cell = 0;
  };
  Lap& next(std::size_t cell);

  cudaStream_t stream_;
  std::vector<std::unique_ptr<Lap>> laps_;
  std::size_t used_ = 0;
};

/// Median time of one of several equal calls in a row inside a CUDA graph: for stages that are
/// short beside the cost of timing them. `wait()` is to return once the stream is done.
double time_in_a_row(cudaStream_t stream, int repeats, const std::function<void()>& enqueue,
                     const std::function<void()>& wait);

}  // namespace metro::layer_bench::cuda
