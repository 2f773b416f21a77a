// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace metro::cuda {

struct PeerView;
struct ExchangeState;

struct ExchangeCounters {
  std::uint32_t fallbacks =
      0;  ///< calls that used `home`: ranks disagreed, or a message was missing
  std::uint32_t timeouts = 0;  ///< of these, because a message was missing
};

/// How ranks learn which experts the others activate: each gives a bitmap of its experts, its
/// number of tokens and a fingerprint of its placement, and gets everyone's.
///
/// If fingerprints differ (one rank has already taken a new placement), every rank sees it and uses
/// `home` for that layer. Ranks without tokens take part: a call is never skipped.
class Exchange {
 public:
  virtual ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int num_ranks() const noexcept { return num_ranks_; }

  /// Waits for the device. Throws Error{kDevice}.
  [[nodiscard]] ExchangeCounters counters() const;

 protected:
  /// Throws Error{kUsage} unless 0 <= rank < num_ranks <= 64.
  Exchange(int rank, int num_ranks);

 private:
  friend class Router;
  /// Peers' memory, if the router's kernels can reach it; else they leave it to all_gather.
  [[nodiscard]] virtual const PeerView* peers() const;
  /// Enqueues the gathering of `num_words` words per rank.
  virtual void all_gather(const std::uint32_t* message, std::uint32_t* gathered, int num_words,
                          cudaStream_t stream);

  struct FreeState {
    void operator()(ExchangeState* state) const noexcept;
  };
  int rank_;
  int num_ranks_;
  std::unique_ptr<ExchangeState, FreeState> state_;  // on the device
};

/// Where a rank's messages are to be written: plain bytes, to be carried to the other ranks by
/// whatever brought the processes up.
struct PeerHandle {
  std::uint64_t process = 0;
  int device = 0;  ///< as that process counts them
  void* buffer = nullptr;
  std::array<std::byte, 64> ipc{};
};

/// Exchange through peers' memory, inside the router's kernel: each rank writes its message into
/// every peer's buffer over NVLink and waits for theirs.
///
///     metro::cuda::PeerExchange exchange(rank, num_ranks);
///     exchange.connect(all_handles);   // exchange.handle() of every rank, in rank order
///     router.route(..., {.exchange = &exchange});
///
/// A peer that does not answer within `timeout` costs that time and a `home` routing, never a hang.
/// Ranks may then disagree on one layer, which is lossless where the source rank decides for its
/// own tokens (all-to-all dispatch). One exchange serves all layers; one call at a time.
class PeerExchange final : public Exchange {
 public:
  /// Throws Error{kUsage}, Error{kDevice}.
  PeerExchange(int rank, int num_ranks,
               std::chrono::nanoseconds timeout = std::chrono::milliseconds(100));
  ~PeerExchange() override;

  [[nodiscard]] PeerHandle handle() const;

  /// Opens the other ranks' buffers: directly in the same process, else by CUDA IPC. Their devices
  /// must be able to reach each other. Throws Error{kUsage} for a wrong number of handles,
  /// {kDevice}.
  void connect(std::span<const PeerHandle> handles);

 private:
  [[nodiscard]] const PeerView* peers() const override;

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace metro::cuda
