// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/exchange_protocol.hpp"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {

/// Peers' memory over NVLink.
struct DeviceLink {
  __device__ __forceinline__ void send(std::uint64_t* to, std::uint64_t word) const {
    asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
  }
  __device__ __forceinline__ std::uint64_t read(const std::uint64_t* from) const {
    std::uint64_t word;
    asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
    return word;
  }
  __device__ __forceinline__ std::uint64_t now_ns() const {
    std::uint64_t time;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    return time;
  }
};

/// exchange_messages by all threads of the CTA at once.
template <typename Take>
__device__ __forceinline__ std::uint32_t exchange_in_block(const PeerView& peers, std::uint32_t tag,
                                                           const std::uint32_t* message,
                                                           int message_words, Take take) {
  return exchange_messages(DeviceLink{}, peers, tag, message, message_words,
                           static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), take);
}

}  // namespace metro::cuda
