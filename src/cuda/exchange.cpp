// SPDX-License-Identifier: Apache-2.0
#include "metro/cuda/exchange.hpp"

#include <fmt/format.h>

#include "cuda/check.hpp"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {

void Exchange::FreeState::operator()(ExchangeState* state) const noexcept { cudaFree(state); }

Exchange::Exchange(int rank, int num_ranks) : rank_(rank), num_ranks_(num_ranks) {
  if (num_ranks < 1 || num_ranks > kMaxRanks || rank < 0 || rank >= num_ranks) {
    throw Error(ErrorCode::kUsage, fmt::format("rank {} of {} ranks: an exchange has 1 to {} ranks",
                                               rank, num_ranks, kMaxRanks));
  }
  void* state = nullptr;
  METRO_CUDA_CHECK(cudaMalloc(&state, sizeof(ExchangeState)));
  state_.reset(static_cast<ExchangeState*>(state));
  METRO_CUDA_CHECK(cudaMemset(state, 0, sizeof(ExchangeState)));
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
}

Exchange::~Exchange() = default;

const PeerView* Exchange::peers() const { return nullptr; }

void Exchange::all_gather(const std::uint32_t* /*message*/, std::uint32_t* /*gathered*/,
                          int /*num_words*/, cudaStream_t /*stream*/) {}

ExchangeCounters Exchange::counters() const {
  ExchangeState state;
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  METRO_CUDA_CHECK(cudaMemcpy(&state, state_.get(), sizeof state, cudaMemcpyDeviceToHost));
  return {state.fallbacks, state.timeouts};
}

}  // namespace metro::cuda
