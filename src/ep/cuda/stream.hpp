// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <type_traits>
#include <utility>

#include "cuda/check.hpp"

/// CUDA's own handles with an owner.
namespace metro::ep::cuda {

template <auto destroy>
struct Destroy {
  template <typename Handle>
  void operator()(Handle handle) const noexcept {
    static_cast<void>(destroy(handle));
  }
};
template <typename Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<destroy>>;

/// A stream that waits for no other.
class Stream {
 public:
  Stream() {
    cudaStream_t stream = nullptr;
    METRO_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    stream_.reset(stream);
  }
  operator cudaStream_t() const noexcept { return stream_.get(); }  // NOLINT: as CUDA takes it
  void wait() const { METRO_CUDA_CHECK(cudaStreamSynchronize(stream_.get())); }

 private:
  Owned<cudaStream_t, cudaStreamDestroy> stream_;
};

/// A point in a stream: for ordering, or with `timed` for measuring.
class Event {
 public:
  explicit Event(bool timed = false) {
    cudaEvent_t event = nullptr;
    METRO_CUDA_CHECK(
        cudaEventCreateWithFlags(&event, timed ? cudaEventDefault : cudaEventDisableTiming));
    event_.reset(event);
  }
  void record(cudaStream_t stream) const {
    METRO_CUDA_CHECK(cudaEventRecord(event_.get(), stream));
  }
  void wait() const { METRO_CUDA_CHECK(cudaEventSynchronize(event_.get())); }
  /// Later work of `stream` waits for it.
  void hold(cudaStream_t stream) const {
    METRO_CUDA_CHECK(cudaStreamWaitEvent(stream, event_.get(), 0));
  }
  /// Both must have been timed and have happened.
  [[nodiscard]] double us_since(const Event& begin) const {
    float ms = 0;
    METRO_CUDA_CHECK(cudaEventElapsedTime(&ms, begin.event_.get(), event_.get()));
    return 1000.0 * static_cast<double>(ms);
  }

 private:
  Owned<cudaEvent_t, cudaEventDestroy> event_;
};

/// Work that was captured from a stream, to be replayed.
class Graph {
 public:
  /// Calls `enqueue()`, which enqueues to `stream`; nothing of it runs yet.
  template <typename Enqueue>
  Graph(cudaStream_t stream, Enqueue&& enqueue) {
    METRO_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    try {
      std::forward<Enqueue>(enqueue)();
    } catch (...) {
      cudaGraph_t broken = nullptr;
      static_cast<void>(cudaStreamEndCapture(stream, &broken));
      if (broken != nullptr) static_cast<void>(cudaGraphDestroy(broken));
      throw;
    }
    cudaGraph_t captured = nullptr;
    METRO_CUDA_CHECK(cudaStreamEndCapture(stream, &captured));
    const Owned<cudaGraph_t, cudaGraphDestroy> graph(captured);
    cudaGraphExec_t executable = nullptr;
    METRO_CUDA_CHECK(cudaGraphInstantiate(&executable, graph.get(), 0));
    executable_.reset(executable);
  }
  void launch(cudaStream_t stream) const {
    METRO_CUDA_CHECK(cudaGraphLaunch(executable_.get(), stream));
  }

 private:
  Owned<cudaGraphExec_t, cudaGraphExecDestroy> executable_;
};

}  // namespace metro::ep::cuda
