// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/kernel_params.hpp"

/// What the routers are compared with, and variants of the router that leave a stage out.
namespace metro::route_bench {

/// A kernel that does nothing: what a launch costs.
void launch_empty(int threads, cudaStream_t stream);

/// Reads ids, writes them back: a launch and two trips to memory.
void launch_copy(const std::int32_t* ids, std::int32_t* replicas, int num_ids, cudaStream_t stream);

/// Replica by token hash, a thread per (token, k), its tables in global memory: how engines map.
struct StockTable {
  const std::int32_t* replica_count;      ///< [experts]
  const std::int32_t* expert_to_replica;  ///< [experts][max_count]
  int num_experts;
  int max_count;
};
void launch_stock_hash(const StockTable& table, const std::int32_t* ids, std::int32_t* replicas,
                       int num_ids, int topk, cudaStream_t stream);

/// `optimal`'s kernel with a solver that keeps the base: marks and maps, and never solves. Takes
/// up to 256 experts and 32 GPUs; false: it does not.
bool launch_without_solving(const cuda::ActiveParams& params, cudaStream_t stream);

}  // namespace metro::route_bench
