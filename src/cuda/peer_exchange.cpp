// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <random>
#include <unordered_map>
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

/// The buffers of this process's exchanges. A peer that may write into one shares it, so that it is
/// freed after the last of them.
class Buffers {
 public:
  std::shared_ptr<std::uint64_t> make(std::size_t words) {
    std::shared_ptr<std::uint64_t> buffer(make_device_array<std::uint64_t>(words).release(),
                                          FreeDevice{});
    const std::scoped_lock lock(mutex_);
    std::erase_if(all_, [](const auto& entry) { return entry.second.expired(); });
    all_[buffer.get()] = buffer;
    return buffer;
  }
  std::shared_ptr<std::uint64_t> at(const void* pointer) {
    const std::scoped_lock lock(mutex_);
    const auto found = all_.find(pointer);
    return found == all_.end() ? nullptr : found->second.lock();
  }

 private:
  std::mutex mutex_;
  std::unordered_map<const void*, std::weak_ptr<std::uint64_t>> all_;
};

Buffers& buffers_of_process() {
  static Buffers buffers;
  return buffers;
}

/// For a buffer that other processes may write at any time: freed with this process, by the driver.
void keep_for_ever(std::shared_ptr<std::uint64_t> buffer) {
  static_cast<void>(new std::shared_ptr<std::uint64_t>(std::move(buffer)));
}

struct CloseIpc {
  void operator()(void* pointer) const noexcept { cudaIpcCloseMemHandle(pointer); }
};

}  // namespace

struct PeerExchange::Impl {
  std::shared_ptr<std::uint64_t> buffer;                   // messages to this rank
  DeviceArray<std::uint64_t*> buffers;                     // every rank's, for the kernels
  std::vector<std::shared_ptr<std::uint64_t>> neighbours;  // buffers of this process
  std::vector<std::unique_ptr<void, CloseIpc>> opened;     // of others
  PeerView view;
  int device = 0;
  std::uint32_t generation = 0;
  bool is_connected = false;
  bool is_lent = false;  // another process may have opened the buffer
};

PeerExchange::PeerExchange(int rank, int num_ranks, std::chrono::nanoseconds timeout)
    : Exchange(rank, num_ranks), impl_(std::make_unique<Impl>()) {
  if (timeout.count() < 1) {
    throw Error(ErrorCode::kUsage,
                fmt::format("time-out of {} ns must be positive", timeout.count()));
  }
  const auto words = std::size_t{2} * static_cast<std::size_t>(num_ranks) * kMaxMessageWords;
  impl_->buffer = buffers_of_process().make(words);
  impl_->buffers = make_device_array<std::uint64_t*>(static_cast<std::size_t>(num_ranks));
  impl_->view = {impl_->buffers.get(), rank, num_ranks, timeout.count()};
  impl_->device = current_device();
  start_generation(0, ExchangeFault::kNotConnected);
}

PeerExchange::~PeerExchange() {
  // Our kernels write into peers' buffers: they end before those are let go.
  int device = 0;
  if (cudaGetDevice(&device) == cudaSuccess && cudaSetDevice(impl_->device) == cudaSuccess) {
    static_cast<void>(cudaDeviceSynchronize());
    static_cast<void>(cudaSetDevice(device));
  }
  if (impl_->is_lent) keep_for_ever(impl_->buffer);
}

PeerHandle PeerExchange::handle() const {
  PeerHandle handle{process_token(), impl_->device, impl_->buffer.get(), {}, impl_->generation};
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
  std::uint32_t generation = 0;
  for (const PeerHandle& peer : handles) generation = std::max(generation, peer.generation);
  close();
  std::vector<std::uint64_t*> buffers;
  for (std::size_t rank = 0; rank < handles.size(); ++rank) {
    const PeerHandle& peer = handles[rank];
    void* pointer = peer.buffer;
    if (peer.process == process_token()) {
      auto buffer = buffers_of_process().at(peer.buffer);
      if (buffer == nullptr) {
        throw Error(ErrorCode::kUsage,
                    fmt::format("the exchange of rank {} no longer exists", rank));
      }
      enable_access_to(peer.device);
      impl_->neighbours.push_back(std::move(buffer));
    } else {
      cudaIpcMemHandle_t ipc;
      std::memcpy(&ipc, peer.ipc.data(), sizeof ipc);
      METRO_CUDA_CHECK(cudaIpcOpenMemHandle(&pointer, ipc, cudaIpcMemLazyEnablePeerAccess));
      impl_->opened.emplace_back(pointer);
      impl_->is_lent = true;
    }
    buffers.push_back(static_cast<std::uint64_t*>(pointer));
  }
  void* const table = static_cast<void*>(impl_->buffers.get());
  const void* const filled = static_cast<const void*>(buffers.data());
  METRO_CUDA_CHECK(
      cudaMemcpy(table, filled, buffers.size() * sizeof(buffers[0]), cudaMemcpyHostToDevice));
  impl_->is_connected = true;
  next_generation(generation);
}

void PeerExchange::reset() {
  if (!impl_->is_connected) {
    throw Error(ErrorCode::kUsage, "the exchange is not connected: call connect first");
  }
  next_generation(impl_->generation);
}

void PeerExchange::disconnect() {
  close();
  impl_->is_lent = false;
}

void PeerExchange::close() {
  start_generation(impl_->generation, ExchangeFault::kNotConnected);  // and no kernel is at work
  impl_->is_connected = false;
  impl_->neighbours.clear();
  impl_->opened.clear();
}

void PeerExchange::next_generation(std::uint32_t last) {
  if (last >= kMaxGeneration) {
    throw Error(ErrorCode::kUsage, fmt::format("an exchange can be reset {} times: make a new one",
                                               kMaxGeneration - 1));
  }
  impl_->generation = last + 1;
  start_generation(impl_->generation, ExchangeFault::kNone);
}

const PeerView* PeerExchange::peers() const { return &impl_->view; }

}  // namespace metro::cuda
