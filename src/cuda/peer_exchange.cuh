// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/kernel_params.hpp"

namespace metro::cuda {

/// Every word travels with the step that it belongs to in one 64-bit store, so a reader needs no
/// fence and no second flag: one trip over the link is the whole latency.
__device__ __forceinline__ void send_word(std::uint64_t* to, std::uint32_t value,
                                          std::uint32_t step) {
  const std::uint64_t both = static_cast<std::uint64_t>(step) << 32 | value;
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(both) : "memory");
}

__device__ __forceinline__ std::uint64_t now_ns() {
  std::uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

/// Waits for the word of `step`. False when the time is up or the peer is ahead of us: then we
/// were the one who timed out before, and this step's word is gone.
__device__ __forceinline__ bool receive_word(const std::uint64_t* from, std::uint32_t step,
                                             std::uint64_t deadline_ns, std::uint32_t& value) {
  for (;;) {
    std::uint64_t both;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(both) : "l"(from) : "memory");
    const auto tag = static_cast<std::uint32_t>(both >> 32);
    value = static_cast<std::uint32_t>(both);
    if (tag == step) return true;
    if (static_cast<std::int32_t>(tag - step) > 0 || now_ns() > deadline_ns) return false;
  }
}

/// Where rank `source` puts its message of `step` in a rank's buffer. Two buffers suffice: a rank
/// starts step s + 2 only when it has all messages of s + 1, which the others sent after reading s.
__device__ __forceinline__ int message_offset(const PeerView& peers, std::uint32_t step,
                                              int source) {
  return (static_cast<int>(step & 1U) * peers.num_ranks + source) * kMaxMessageWords;
}

/// Sends this rank's message (shared or global memory) to all ranks and hands every word of every
/// rank's message to `take(rank, index, word)`, all by the CTA's threads at once. Returns whether
/// this thread got all of its words.
template <typename Take>
__device__ __forceinline__ bool exchange_messages(const PeerView& peers, std::uint32_t step,
                                                  const std::uint32_t* message, int message_words,
                                                  Take take) {
  const int words = peers.num_ranks * message_words;
  const int threads = static_cast<int>(blockDim.x);
  for (int i = static_cast<int>(threadIdx.x); i < words; i += threads) {
    const int index = i % message_words;
    std::uint64_t* to = peers.buffers[i / message_words];
    send_word(to + message_offset(peers, step, peers.rank) + index, message[index], step);
  }
  const std::uint64_t deadline = now_ns() + static_cast<std::uint64_t>(peers.timeout_ns);
  const std::uint64_t* own = peers.buffers[peers.rank];
  bool complete = true;
  for (int i = static_cast<int>(threadIdx.x); i < words; i += threads) {
    const int source = i / message_words;
    const int index = i % message_words;
    std::uint32_t value = 0;
    if (receive_word(own + message_offset(peers, step, source) + index, step, deadline, value)) {
      take(source, index, value);
    } else {
      complete = false;
    }
  }
  return complete;
}

}  // namespace metro::cuda
