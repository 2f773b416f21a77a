// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/kernel_params.hpp"
#include "cuda/warp_macros.hpp"

/// What ranks do with each other's buffers: the same source for the router's kernels and, for its
/// tests, for threads of the CPU.
namespace metro::cuda {

/// What a word is marked with. Generations count resets, 1 to 65,535, so that no word of before a
/// reset is taken for one of after; 0 is memory that nobody has written. Steps count the calls of a
/// generation and wrap: ranks are never more than two apart.
METRO_DEVICE std::uint32_t message_tag(std::uint32_t generation, std::uint32_t step) {
  return generation << 16 | (step & 0xFFFFU);
}

enum class Arrival { kNotYet, kHere, kNever };

/// Whether the word `wanted` has come, where a word with `tag` lies. A peer that is ahead has
/// written over it, or was reset while we were not.
METRO_DEVICE Arrival arrival_of(std::uint32_t tag, std::uint32_t wanted) {
  if (tag == wanted) return Arrival::kHere;
  const std::uint32_t generation = tag >> 16;
  const std::uint32_t own = wanted >> 16;
  if (generation != own) return generation > own ? Arrival::kNever : Arrival::kNotYet;
  return static_cast<std::int16_t>(tag - wanted) > 0 ? Arrival::kNever : Arrival::kNotYet;
}

/// Where rank `source` puts its message in a rank's buffer. Two buffers suffice: a rank starts step
/// s + 2 only when it has all messages of s + 1, which the others sent after reading s.
METRO_DEVICE int message_offset(const PeerView& peers, std::uint32_t tag, int source) {
  return (static_cast<int>(tag & 1U) * peers.num_ranks + source) * kMaxMessageWords;
}

/// The call that is about to be made, the same for all its threads.
struct ExchangeCall {
  bool stopped;  ///< by an earlier fault: send nothing, wait for nothing
  std::uint32_t tag;
};

METRO_DEVICE ExchangeCall next_call(const ExchangeState& state) {
  return {state.fault != 0, message_tag(state.generation, state.step + 1)};
}

/// Sends this rank's message to all ranks and hands every word of every rank's message to
/// `take(rank, index, word)`; `threads` threads share the work. Returns this thread's faults: 0, or
/// bits of ExchangeFault.
///
/// `Link` has send(to, word), read(from), and now_ns(). Every word travels with its tag in one
/// 64-bit store, so a reader needs no fence and no second flag: one trip over the link is all.
template <class Link, class Take>
METRO_DEVICE std::uint32_t exchange_messages(const Link& link, const PeerView& peers,
                                             std::uint32_t tag, const std::uint32_t* message,
                                             int message_words, int thread, int threads,
                                             Take take) {
  const int words = peers.num_ranks * message_words;
  for (int i = thread; i < words; i += threads) {
    const int index = i % message_words;
    std::uint64_t* to = peers.buffers[i / message_words];
    link.send(to + message_offset(peers, tag, peers.rank) + index,
              static_cast<std::uint64_t>(tag) << 32 | message[index]);
  }
  const std::uint64_t deadline = link.now_ns() + static_cast<std::uint64_t>(peers.timeout_ns);
  const std::uint64_t* own = peers.buffers[peers.rank];
  std::uint32_t faults = 0;
  for (int i = thread; i < words; i += threads) {
    const int source = i / message_words;
    const int index = i % message_words;
    const std::uint64_t* from = own + message_offset(peers, tag, source) + index;
    for (;;) {
      const std::uint64_t both = link.read(from);
      const Arrival arrival = arrival_of(static_cast<std::uint32_t>(both >> 32), tag);
      if (arrival == Arrival::kHere) {
        take(source, index, static_cast<std::uint32_t>(both));
        break;
      }
      const bool never = arrival == Arrival::kNever;
      if (!never && link.now_ns() <= deadline) continue;
      faults |= never ? kFaultOutOfStep : kFaultTimeout;
      break;
    }
  }
  return faults;
}

/// By one thread, after all have made the call: a fault stops the exchange until it is reset.
METRO_DEVICE void end_call(ExchangeState& state, const ExchangeCall& call, std::uint32_t faults) {
  if (call.stopped) {
    ++state.skipped;
    return;
  }
  ++state.step;
  if (faults == 0) return;
  ++state.timeouts;
  state.fault = (faults & kFaultOutOfStep) != 0 ? kFaultOutOfStep : kFaultTimeout;
  if (state.fault_on_host != nullptr) {
    *static_cast<volatile std::uint32_t*>(state.fault_on_host) = state.fault;
  }
}

/// What a rank takes for `index` of `source`'s message when a message is missing: it goes by its
/// own alone. No part of a half-read call and nothing of an earlier one is left.
METRO_DEVICE std::uint32_t word_without_peers(const PeerView& peers, const std::uint32_t* message,
                                              int message_words, int source, int index) {
  const std::uint32_t own = message[index];
  const int tail = index - (message_words - kMessageTail);
  if (tail == kEpochWord) return ~message[index];  // so that the kernel behind uses `home`
  if (source == peers.rank) return own;
  return tail == kTokensWord ? kUnknownTokens : 0U;
}

}  // namespace metro::cuda
