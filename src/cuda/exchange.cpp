// SPDX-License-Identifier: Apache-2.0
#include "metro/cuda/exchange.hpp"

#include <fmt/format.h>

#include "cuda/check.hpp"
#include "cuda/kernel_params.hpp"

namespace metro::cuda {

static_assert(static_cast<std::uint32_t>(ExchangeFault::kTimeout) == kFaultTimeout);
static_assert(static_cast<std::uint32_t>(ExchangeFault::kOutOfStep) == kFaultOutOfStep);
static_assert(static_cast<std::uint32_t>(ExchangeFault::kNotConnected) == kFaultNotConnected);

void Exchange::FreeState::operator()(ExchangeState* state) const noexcept { cudaFree(state); }
void Exchange::FreePinned::operator()(std::uint32_t* word) const noexcept { cudaFreeHost(word); }

Exchange::Exchange(int rank, int num_ranks) : rank_(rank), num_ranks_(num_ranks) {
  if (num_ranks < 1 || num_ranks > kMaxRanks || rank < 0 || rank >= num_ranks) {
    throw Error(ErrorCode::kUsage, fmt::format("rank {} of {} ranks: an exchange has 1 to {} ranks",
                                               rank, num_ranks, kMaxRanks));
  }
  void* word = nullptr;
  METRO_CUDA_CHECK(cudaHostAlloc(&word, sizeof(std::uint32_t), cudaHostAllocPortable));
  fault_.reset(static_cast<std::uint32_t*>(word));
  *fault_ = 0;
  void* state = nullptr;
  METRO_CUDA_CHECK(cudaMalloc(&state, sizeof(ExchangeState)));
  state_.reset(static_cast<ExchangeState*>(state));
  ExchangeState first;
  first.fault_on_host = fault_.get();
  METRO_CUDA_CHECK(cudaMemcpy(state, &first, sizeof first, cudaMemcpyHostToDevice));
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
  return {state.fallbacks, state.timeouts, state.skipped};
}

ExchangeFault Exchange::fault() const noexcept {
  return static_cast<ExchangeFault>(*static_cast<const volatile std::uint32_t*>(fault_.get()));
}

void Exchange::start_generation(std::uint32_t generation, ExchangeFault fault) {
  ExchangeState state;
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  METRO_CUDA_CHECK(cudaMemcpy(&state, state_.get(), sizeof state, cudaMemcpyDeviceToHost));
  state.step = 0;
  state.generation = generation;
  state.fault = static_cast<std::uint32_t>(fault);
  METRO_CUDA_CHECK(cudaMemcpy(state_.get(), &state, sizeof state, cudaMemcpyHostToDevice));
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  *static_cast<volatile std::uint32_t*>(fault_.get()) = state.fault;
}

}  // namespace metro::cuda
