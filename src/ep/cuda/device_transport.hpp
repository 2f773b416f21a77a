// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <span>
#include <string_view>

namespace metro::ep::cuda {

/// One array of a collective. `bytes` is what goes from one rank to another.
struct Transfer {
  const void* send = nullptr;
  void* receive = nullptr;
  std::size_t bytes = 0;
};

/// Collectives over device memory between the ranks of an expert-parallel layer: ep::Transport's
/// verbs, enqueued to a stream.
///
/// All ranks call the same collectives with the same sizes in the same order, ranks without tokens
/// too, and sizes depend on nothing but capacities, so that a CUDA graph may hold them. Arrays of
/// one call travel together. When a rank is lost, `wait` (or a later call) throws Error{kDevice} in
/// time, and the transport is of no more use. One thread and one stream at a time.
class DeviceTransport {
 public:
  DeviceTransport() = default;
  virtual ~DeviceTransport() = default;
  DeviceTransport(const DeviceTransport&) = delete;
  DeviceTransport& operator=(const DeviceTransport&) = delete;

  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  /// send [bytes], receive [ranks][bytes].
  virtual void all_gather(std::span<const Transfer> transfers, cudaStream_t stream) = 0;

  /// send [ranks][bytes], receive [ranks][bytes].
  virtual void all_to_all(std::span<const Transfer> transfers, cudaStream_t stream) = 0;

  /// send [ranks][count], receive [count]: the sum over ranks.
  virtual void reduce_scatter(const __nv_bfloat16* send, __nv_bfloat16* receive, std::size_t count,
                              cudaStream_t stream) = 0;

  /// Blocks the host until the work in `stream` is done. Throws Error{kDevice} when that takes
  /// longer than the transport's timeout.
  virtual void wait(cudaStream_t stream) = 0;
};

}  // namespace metro::ep::cuda
