// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <vector>

namespace metro::route_bench {

/// A stream that waits for no other.
class BenchStream {
 public:
  BenchStream();
  ~BenchStream();
  BenchStream(const BenchStream&) = delete;
  BenchStream& operator=(const BenchStream&) = delete;

  [[nodiscard]] cudaStream_t get() const noexcept { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Enqueues one call on input number i.
using Call = std::function<void(int, cudaStream_t)>;

/// Median time of a call inside a CUDA graph of 64 calls in a row, over 101 replays; inputs take
/// turns. Several calls run at once, a stream each: ranks that wait for each other.
double time_us(const std::vector<Call>& calls, int num_inputs);

/// The same of one rank among several that have a thread each: `meet()` holds it until all are
/// there, before each replay.
double time_us(const Call& call, int num_inputs, const BenchStream& stream,
               const std::function<void()>& meet);

}  // namespace metro::route_bench
