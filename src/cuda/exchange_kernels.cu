// SPDX-License-Identifier: Apache-2.0
// The first step of a batch that is too large for one CTA, or that an exchange must see before it
// is routed: a message with the experts it activates.
#include "cuda/batch_access.cuh"
#include "cuda/kernel_params.hpp"
#include "cuda/peer_exchange.cuh"

namespace metro::cuda {
namespace {

__global__ void __launch_bounds__(kMarkThreads)
    mark_kernel_of(const __grid_constant__ MarkParams params) {
  __shared__ std::uint8_t flags[kMaxRouterExperts];
  const TableLayout& layout = params.table.layout;
  const int thread = static_cast<int>(threadIdx.x);
  const int first = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  FourIds ids = load_ids(params.batch, first);
  const int num_valid = num_valid_ids(params.batch);
  for (int e = thread; e < kMaxRouterExperts; e += kMarkThreads) flags[e] = 0;
  __syncthreads();
  mask_ids(ids, first, num_valid, layout.num_experts);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    if (ids.id[k] >= 0) flags[ids.id[k]] = 1;
  }
  __syncthreads();
  const int word = thread / 32;
  if (word < layout.mask_words) {
    const unsigned bits = __ballot_sync(0xFFFFFFFFU, flags[thread] != 0);
    if (thread % 32 == 0 && bits != 0) atomicOr(params.message + word, bits);
  }
  if (blockIdx.x == 0 && thread == 0) {
    params.message[layout.mask_words] = static_cast<std::uint32_t>(num_valid / params.batch.topk);
    params.message[layout.mask_words + 1] = params.table.words[layout.epoch];
  }
}

/// Sends the message, gathers all ranks'. When one does not come, all are replaced by what this
/// rank knows alone, with another epoch, so that the kernel behind falls back.
__global__ void __launch_bounds__(kExchangeThreads)
    exchange_kernel_of(const __grid_constant__ ExchangeParams params) {
  __shared__ std::uint32_t all_faults;
  const TableLayout& layout = params.table.layout;
  const int message_words = layout.mask_words + kMessageTail;
  if (threadIdx.x == 0) all_faults = 0;
  __syncthreads();
  const ExchangeCall call = next_call(*params.exchange);
  if (!call.stopped) {
    const auto take = [&](int rank, int index, std::uint32_t word) {
      params.gathered[rank * message_words + index] = word;
    };
    const std::uint32_t faults =
        exchange_in_block(params.peers, call.tag, params.message, message_words, take);
    if (faults != 0) atomicOr(&all_faults, faults);
  }
  __syncthreads();
  if (threadIdx.x == 0) end_call(*params.exchange, call, all_faults);
  if (!call.stopped && all_faults == 0) return;
  const int words = params.peers.num_ranks * message_words;
  for (int i = static_cast<int>(threadIdx.x); i < words; i += kExchangeThreads) {
    params.gathered[i] = word_without_peers(params.peers, params.message, message_words,
                                            i / message_words, i % message_words);
  }
}

}  // namespace

Kernel mark_kernel(const TableLayout& /*layout*/) {
  return {reinterpret_cast<const void*>(&mark_kernel_of), kMarkThreads, 0};
}

Kernel exchange_kernel(const TableLayout& /*layout*/) {
  return {reinterpret_cast<const void*>(&exchange_kernel_of), kExchangeThreads, 0};
}

}  // namespace metro::cuda
