// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/nccl_transport.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "cuda/check.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

/// Before NCCL reads its variables.
void keep_multicast_off() {
  static std::once_flag once;
  std::call_once(once, [] {
    ::setenv("NCCL_NVLS_ENABLE", "0", 0);  // NOLINT(concurrency-mt-unsafe): once, before NCCL runs
  });
}

void pause() { std::this_thread::sleep_for(std::chrono::microseconds(20)); }

std::byte* at(void* base, std::size_t bytes) { return static_cast<std::byte*>(base) + bytes; }
const std::byte* at(const void* base, std::size_t bytes) {
  return static_cast<const std::byte*>(base) + bytes;
}

}  // namespace

ncclUniqueId make_nccl_id() {
  keep_multicast_off();
  ncclUniqueId id{};
  if (const ncclResult_t status = ncclGetUniqueId(&id); status != ncclSuccess) {
    throw Error(ErrorCode::kDevice, fmt::format("ncclGetUniqueId: {}", ncclGetErrorString(status)));
  }
  return id;
}

ncclUniqueId share_nccl_id(Transport& ranks) {
  ncclUniqueId own{};
  if (ranks.rank() == 0) own = make_nccl_id();
  ncclUniqueId id{};
  std::vector<std::size_t> bytes(static_cast<std::size_t>(ranks.size()));
  bytes[0] = sizeof(id);  // the others send nothing
  ranks.all_gather(std::as_bytes(std::span(&own, ranks.rank() == 0 ? 1 : 0)),
                   std::as_writable_bytes(std::span(&id, 1)), bytes);
  return id;
}

NcclTransport::NcclTransport(const ncclUniqueId& id, int rank, int size,
                             std::chrono::milliseconds timeout)
    : rank_(rank), size_(size), timeout_(timeout) {
  keep_multicast_off();
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const ncclResult_t status = ncclCommInitRankConfig(&communicator_, size, id, rank, &config);
  settle(status, "ncclCommInitRankConfig");
}

NcclTransport::~NcclTransport() {
  if (communicator_ == nullptr) return;
  // Peers may still need our side of their last collective, so it ends in order; if they are gone,
  // it does not end, and is cut off.
  ncclResult_t status = ncclCommFinalize(communicator_);
  const auto deadline = Clock::now() + timeout_;
  while ((status == ncclSuccess || status == ncclInProgress) && Clock::now() < deadline) {
    status = async_status();
    if (status != ncclInProgress) break;
    pause();
  }
  static_cast<void>(status == ncclSuccess ? ncclCommDestroy(communicator_)
                                          : ncclCommAbort(communicator_));
}

void NcclTransport::all_gather(std::span<const Transfer> transfers, cudaStream_t stream) {
  settle(ncclGroupStart(), "ncclGroupStart");
  ncclResult_t status = ncclSuccess;
  for (const Transfer& transfer : transfers) {
    status = ncclAllGather(transfer.send, transfer.receive, transfer.bytes, ncclUint8,
                           communicator_, stream);
    if (status != ncclSuccess && status != ncclInProgress) break;
  }
  const ncclResult_t ended = ncclGroupEnd();
  if (status != ncclSuccess && status != ncclInProgress) settle(status, "ncclAllGather");
  settle(ended, "ncclAllGather");
}

void NcclTransport::all_to_all(std::span<const Transfer> transfers, cudaStream_t stream) {
  settle(ncclGroupStart(), "ncclGroupStart");
  ncclResult_t status = ncclSuccess;
  const auto good = [&status] { return status == ncclSuccess || status == ncclInProgress; };
  for (const Transfer& transfer : transfers) {
    for (int peer = 0; peer < size_ && good(); ++peer) {
      const std::size_t offset = static_cast<std::size_t>(peer) * transfer.bytes;
      status = ncclSend(at(transfer.send, offset), transfer.bytes, ncclUint8, peer, communicator_,
                        stream);
      if (!good()) break;
      status = ncclRecv(at(transfer.receive, offset), transfer.bytes, ncclUint8, peer,
                        communicator_, stream);
    }
  }
  const ncclResult_t ended = ncclGroupEnd();
  if (!good()) settle(status, "ncclSend or ncclRecv");
  settle(ended, "ncclSend and ncclRecv");
}

void NcclTransport::reduce_scatter(const __nv_bfloat16* send, __nv_bfloat16* receive,
                                   std::size_t count, cudaStream_t stream) {
  settle(ncclReduceScatter(send, receive, count, ncclBfloat16, ncclSum, communicator_, stream),
         "ncclReduceScatter");
}

void NcclTransport::all_reduce(__nv_bfloat16* values, std::size_t count, cudaStream_t stream) {
  settle(ncclAllReduce(values, values, count, ncclBfloat16, ncclSum, communicator_, stream),
         "ncclAllReduce");
}

void NcclTransport::wait(cudaStream_t stream) {
  const auto deadline = Clock::now() + timeout_;
  for (;;) {
    const cudaError_t done = cudaStreamQuery(stream);
    if (done == cudaSuccess) return;
    if (done != cudaErrorNotReady) METRO_CUDA_CHECK(done);
    static_cast<void>(cudaGetLastError());  // "not ready" is no launch's failure
    const ncclResult_t status = async_status();
    if (status != ncclSuccess && status != ncclInProgress) {
      fail(fmt::format("a collective failed: {}", ncclGetErrorString(status)));
    }
    if (Clock::now() >= deadline) {
      fail(fmt::format("no end of a collective within {} s, another rank is lost or hangs",
                       std::chrono::duration<double>(timeout_).count()));
    }
    pause();
  }
}

void NcclTransport::settle(ncclResult_t status, const char* call) {
  const auto deadline = Clock::now() + timeout_;
  while (status == ncclInProgress) {
    status = async_status();
    if (status != ncclInProgress) break;
    if (Clock::now() >= deadline) {
      fail(fmt::format("{}: not all ranks came within {} s", call,
                       std::chrono::duration<double>(timeout_).count()));
    }
    pause();
  }
  if (status != ncclSuccess) fail(fmt::format("{}: {}", call, ncclGetErrorString(status)));
}

ncclResult_t NcclTransport::async_status() const {
  if (communicator_ == nullptr) return ncclInvalidUsage;
  ncclResult_t status = ncclSuccess;
  const ncclResult_t asked = ncclCommGetAsyncError(communicator_, &status);
  return asked == ncclSuccess ? status : asked;
}

void NcclTransport::fail(const std::string& what) {
  if (communicator_ != nullptr) static_cast<void>(ncclCommAbort(communicator_));
  communicator_ = nullptr;
  throw Error(ErrorCode::kDevice, fmt::format("NCCL rank {} of {}: {}", rank_, size_, what));
}

}  // namespace metro::ep::cuda
