// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/local_gpus.hpp"

#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

#include "cuda/check.hpp"
#include "ep/cuda/nccl_transport.hpp"

namespace metro::layer_bench::cuda {

void run_local_gpus(int gpus, const std::function<void(int, const ncclUniqueId&)>& work) {
  const ncclUniqueId id = ep::cuda::make_nccl_id();
  std::vector<std::exception_ptr> failures(static_cast<std::size_t>(gpus));
  std::atomic<int> first_failed{-1};
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < gpus; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          METRO_CUDA_CHECK(cudaSetDevice(rank));
          work(rank, id);
        } catch (...) {
          failures[static_cast<std::size_t>(rank)] = std::current_exception();
          int none = -1;
          first_failed.compare_exchange_strong(none, rank);
        }
      });
    }
  }
  if (first_failed >= 0) {
    std::rethrow_exception(failures[static_cast<std::size_t>(first_failed.load())]);
  }
}

}  // namespace metro::layer_bench::cuda
