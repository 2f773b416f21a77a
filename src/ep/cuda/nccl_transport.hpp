// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include <chrono>
#include <memory>
#include <string>

#include "ep/cuda/device_transport.hpp"
#include "metro/ep/transport.hpp"

namespace metro::ep::cuda {

/// A fresh name for a communicator, to be carried to all its ranks. Throws Error{kDevice}.
ncclUniqueId make_nccl_id();

/// A fresh id of rank 0's, brought to all ranks by a transport over host memory, MPI's where they
/// are processes; collective. Throws Error{kDevice}.
ncclUniqueId share_nccl_id(Transport& ranks);

/// DeviceTransport over NCCL: one rank a GPU, in one process (a thread each) or in many.
///
///     const auto ranks = make_mpi_transport(30);
///     NcclTransport transport(share_nccl_id(*ranks), ranks->rank(), ranks->size(), timeout);
///
/// The communicator does not block: whatever hangs for longer than the timeout is aborted, which
/// also ends the kernels that wait for the lost rank. NVLink multicast stays off unless
/// NCCL_NVLS_ENABLE says otherwise. Belongs to the device that is current when it is made, and must
/// outlive the graphs that hold its collectives.
class NcclTransport final : public DeviceTransport {
 public:
  /// Collective. Throws Error{kDevice} with NCCL's words, or when not all ranks came in time.
  NcclTransport(const ncclUniqueId& id, int rank, int size, std::chrono::milliseconds timeout);
  ~NcclTransport() override;

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return size_; }
  [[nodiscard]] std::string_view name() const noexcept override { return "nccl"; }

  void all_gather(std::span<const Transfer> transfers, cudaStream_t stream) override;
  void all_to_all(std::span<const Transfer> transfers, cudaStream_t stream) override;
  void reduce_scatter(const __nv_bfloat16* send, __nv_bfloat16* receive, std::size_t count,
                      cudaStream_t stream) override;
  /// In place, the sum over ranks. No part of a layer, but of what `metro calibrate` times.
  void all_reduce(__nv_bfloat16* values, std::size_t count, cudaStream_t stream);
  void wait(cudaStream_t stream) override;

 private:
  using Clock = std::chrono::steady_clock;

  /// Until NCCL has taken a call: throws when it failed or takes too long.
  void settle(ncclResult_t status, const char* call);
  /// What NCCL's own threads have met since.
  [[nodiscard]] ncclResult_t async_status() const;
  [[noreturn]] void fail(const std::string& what);

  int rank_;
  int size_;
  std::chrono::milliseconds timeout_;
  ncclComm_t communicator_ = nullptr;  // null once aborted
};

}  // namespace metro::ep::cuda
