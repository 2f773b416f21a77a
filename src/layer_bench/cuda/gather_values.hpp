// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "ep/cuda/device_transport.hpp"
#include "ep/cuda/stream.hpp"

/// Figures of all ranks of a benchmark, on all of them.
namespace metro::layer_bench::cuda {

/// Every rank's values, [ranks][n]; collective.
template <typename T>
std::vector<std::vector<T>> gather(ep::cuda::DeviceTransport& transport,
                                   const ep::cuda::Stream& stream, const std::vector<T>& own) {
  const std::size_t count = own.size();
  const auto num_ranks = static_cast<std::size_t>(transport.size());
  const auto send = metro::cuda::make_device_array<T>(count);
  const auto receive = metro::cuda::make_device_array<T>(count * num_ranks);
  METRO_CUDA_CHECK(cudaMemcpy(send.get(), own.data(), count * sizeof(T), cudaMemcpyHostToDevice));
  const ep::cuda::Transfer transfer{send.get(), receive.get(), count * sizeof(T)};
  transport.all_gather({&transfer, 1}, stream);
  transport.wait(stream);
  std::vector<std::vector<T>> all(num_ranks, std::vector<T>(count));
  for (std::size_t rank = 0; rank < all.size(); ++rank) {
    METRO_CUDA_CHECK(cudaMemcpy(all[rank].data(), receive.get() + rank * count, count * sizeof(T),
                                cudaMemcpyDeviceToHost));
  }
  return all;
}

/// Largest of each entry over the ranks.
inline std::vector<double> slowest(const std::vector<std::vector<double>>& by_rank) {
  std::vector<double> most = by_rank.front();
  for (const auto& of_rank : by_rank) {
    for (std::size_t i = 0; i < most.size(); ++i) most[i] = std::max(most[i], of_rank[i]);
  }
  return most;
}

}  // namespace metro::layer_bench::cuda
