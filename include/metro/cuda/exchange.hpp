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
  std::uint32_t skipped = 0;   ///< of these, because the exchange had stopped before
};

/// Why an exchange has stopped.
enum class ExchangeFault : std::uint32_t {
  kNone = 0,
  kTimeout = 1,       ///< a rank's message did not come in time
  kOutOfStep = 2,     ///< a rank is a call or a reset ahead
  kNotConnected = 4,  ///< `connect` has not been called, or has failed
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

  /// Why it has stopped; stays until it is reset. One read of host memory that kernels write: ask
  /// after every step. It waits for nothing, so a call that has not ended may still fail.
  [[nodiscard]] ExchangeFault fault() const noexcept;

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

  friend class PeerExchange;
  /// A new generation from its first step on; the counters go on. Waits for the device.
  void start_generation(std::uint32_t generation, ExchangeFault fault);

  struct FreeState {
    void operator()(ExchangeState* state) const noexcept;
  };
  struct FreePinned {
    void operator()(std::uint32_t* word) const noexcept;
  };
  int rank_;
  int num_ranks_;
  std::unique_ptr<std::uint32_t, FreePinned> fault_;  // written by kernels
  std::unique_ptr<ExchangeState, FreeState> state_;   // on the device
};

/// Where a rank's messages are to be written: plain bytes, to be carried to the other ranks by
/// whatever brought the processes up.
struct PeerHandle {
  std::uint64_t process = 0;
  int device = 0;  ///< as that process counts them
  void* buffer = nullptr;
  std::array<std::byte, 64> ipc{};
  std::uint32_t generation = 0;  ///< resets so far
};

/// Exchange through peers' memory, inside the router's kernel: each rank writes its message into
/// every peer's buffer over NVLink and waits for theirs.
///
///     metro::cuda::PeerExchange exchange(rank, num_ranks);
///     exchange.connect(all_handles);   // exchange.handle() of every rank, in rank order
///     router.route(..., {.exchange = &exchange});
///
/// A peer that does not answer within `timeout` costs that time once. The call then goes by this
/// rank's tokens alone: `home` routing, counts of its own tokens, and -1 in `tokens_per_rank` for
/// every other rank. The exchange stops there: further calls do the same at once, and `fault()`
/// says why, until all ranks reset it. Others notice at their next call, within the same time.
/// Ranks may then disagree on one layer, which is lossless where the source rank decides for its
/// own tokens (all-to-all dispatch). One exchange serves all layers; one call at a time.
class PeerExchange final : public Exchange {
 public:
  /// Throws Error{kUsage}, Error{kDevice}.
  PeerExchange(int rank, int num_ranks,
               std::chrono::nanoseconds timeout = std::chrono::milliseconds(100));

  /// Waits for the device. A buffer that peers of this process may still write lives until they
  /// have gone too. One that other processes may still write is kept to the end of this process (35
  /// kB at most), unless `disconnect` was called.
  ~PeerExchange() override;

  [[nodiscard]] PeerHandle handle() const;

  /// Opens the other ranks' buffers: directly in the same process, else by CUDA IPC. Their devices
  /// must be able to reach each other. All ranks call it with the same handles, and wait for each
  /// other (a barrier) before the next call: also again, with fresh handles of all, when a rank was
  /// restarted. Throws Error{kUsage} for a wrong number of handles or a peer that is gone,
  /// {kDevice}; the exchange is then not connected.
  void connect(std::span<const PeerHandle> handles);

  /// Puts all ranks in step again after a fault. Every rank calls it, when none has a call under
  /// way, and they wait for each other (a barrier) before the next one. Captured graphs stay valid.
  /// Throws Error{kUsage} if it is not connected, {kDevice}.
  void reset();

  /// Closes the others' buffers. When all ranks have done so (a barrier), each may be destroyed and
  /// frees all its memory.
  void disconnect();

 private:
  [[nodiscard]] const PeerView* peers() const override;
  void close();
  void next_generation(std::uint32_t last);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace metro::cuda
