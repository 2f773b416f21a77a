// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstring>
#include <random>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/kernel_params.hpp"
#include "metro/cuda/exchange.hpp"

namespace metro::cuda {
namespace {

/// Differs between processes, also those of different containers with equal process ids.
std::uint64_t process_token() {
  static const std::uint64_t token = [] {
    std::random_device random;
    return std::uint64_t{random()} << 32 | random();
  }();
  return token;
}

int current_device() {
  int device = 0;
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  return device;
}

/// Lets this device's kernels use another device's memory; that may have been done before.
void enable_access_to(int device) {
  if (device == current_device()) return;
  const cudaError_t status = cudaDeviceEnablePeerAccess(device, 0);
  if (status == cudaErrorPeerAccessAlreadyEnabled) {
    static_cast<void>(cudaGetLastError());
    return;
  }
  METRO_CUDA_CHECK(status);
}

struct CloseIpc {
  void operator()(void* pointer) const noexcept { cudaIpcCloseMemHandle(pointer); }
};

}  // namespace

struct PeerExchange::Impl {
  DeviceArray<std::uint64_t> buffer;    // messages to this rank
  DeviceArray<std::uint64_t*> buffers;  // every rank's, for the kernels
  std::vector<std::unique_ptr<void, CloseIpc>> opened;
  PeerView view;
};

PeerExchange::PeerExchange(int rank, int num_ranks, std::chrono::nanoseconds timeout)
    : Exchange(rank, num_ranks), impl_(std::make_unique<Impl>()) {
  if (timeout.count() < 1) {
    throw Error(ErrorCode::kUsage,
                fmt::format("time-out of {} ns must be positive", timeout.count()));
  }
  const auto words = std::size_t{2} * static_cast<std::size_t>(num_ranks) * kMaxMessageWords;
  impl_->buffer = make_device_array<std::uint64_t>(words);
  impl_->buffers = make_device_array<std::uint64_t*>(static_cast<std::size_t>(num_ranks));
  impl_->view = {impl_->buffers.get(), rank, num_ranks, timeout.count()};
}

PeerExchange::~PeerExchange() = default;

PeerHandle PeerExchange::handle() const {
  PeerHandle handle{process_token(), current_device(), impl_->buffer.get(), {}};
  cudaIpcMemHandle_t ipc;
  static_assert(sizeof ipc == sizeof handle.ipc);
  METRO_CUDA_CHECK(cudaIpcGetMemHandle(&ipc, impl_->buffer.get()));
  std::memcpy(handle.ipc.data(), &ipc, sizeof ipc);
  return handle;
}

void PeerExchange::connect(std::span<const PeerHandle> handles) {
  if (handles.size() != static_cast<std::size_t>(num_ranks())) {
    throw Error(ErrorCode::kUsage, fmt::format("{} handles for {} ranks: one of each is needed",
                                               handles.size(), num_ranks()));
  }
  std::vector<std::uint64_t*> buffers;
  for (const PeerHandle& peer : handles) {
    void* pointer = peer.buffer;
    if (peer.process == process_token()) {
      enable_access_to(peer.device);
    } else {
      cudaIpcMemHandle_t ipc;
      std::memcpy(&ipc, peer.ipc.data(), sizeof ipc);
      METRO_CUDA_CHECK(cudaIpcOpenMemHandle(&pointer, ipc, cudaIpcMemLazyEnablePeerAccess));
      impl_->opened.emplace_back(pointer);
    }
    buffers.push_back(static_cast<std::uint64_t*>(pointer));
  }
  void* const table = static_cast<void*>(impl_->buffers.get());
  const void* const filled = static_cast<const void*>(buffers.data());
  METRO_CUDA_CHECK(
      cudaMemcpy(table, filled, buffers.size() * sizeof(buffers[0]), cudaMemcpyHostToDevice));
}

const PeerView* PeerExchange::peers() const { return &impl_->view; }

}  // namespace metro::cuda
