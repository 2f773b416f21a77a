// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cuda/active_kernel.cuh"
#include "cuda/launch.hpp"
#include "route_bench/rival_kernels.hpp"

namespace metro::route_bench {
namespace {

constexpr int kStockThreads = 256;

__global__ void empty_kernel() {}

__global__ void copy_kernel(const int4* ids, int4* replicas, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) replicas[i] = ids[i];
}

__global__ void stock_hash_kernel(StockTable table, const std::int32_t* ids, std::int32_t* replicas,
                                  int num_ids, int topk) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= num_ids) return;
  const int id = ids[i];
  if (id < 0 || id >= table.num_experts) {
    replicas[i] = -1;
    return;
  }
  const auto hash = static_cast<std::uint32_t>(i / topk) * 2654435769U;
  const std::uint32_t position = hash % static_cast<std::uint32_t>(table.replica_count[id]);
  replicas[i] = table.expert_to_replica[id * table.max_count + static_cast<int>(position)];
}

/// Stands in for a solver.
template <class Warp, int kWords, int kGpuSets>
struct KeepBase {
  static constexpr int kSets = kGpuSets;
  __device__ KeepBase(const cuda::SolverMemory&, const Warp&) {}
  __device__ int solve(const std::uint32_t (&)[kWords]) { return 0; }
  __device__ int load(int) const { return 0; }
  __device__ int moves() const { return 0; }
};

}  // namespace

void launch_empty(int threads, cudaStream_t stream) {
  empty_kernel<<<1, static_cast<unsigned>(threads), 0, stream>>>();
  METRO_CUDA_CHECK(cudaGetLastError());
}

void launch_copy(const std::int32_t* ids, std::int32_t* replicas, int num_ids,
                 cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((num_ids / 4 + kStockThreads - 1) / kStockThreads);
  copy_kernel<<<blocks, kStockThreads, 0, stream>>>(reinterpret_cast<const int4*>(ids),
                                                    reinterpret_cast<int4*>(replicas), num_ids / 4);
  METRO_CUDA_CHECK(cudaGetLastError());
}

void launch_stock_hash(const StockTable& table, const std::int32_t* ids, std::int32_t* replicas,
                       int num_ids, int topk, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>((num_ids + kStockThreads - 1) / kStockThreads);
  stock_hash_kernel<<<blocks, kStockThreads, 0, stream>>>(table, ids, replicas, num_ids, topk);
  METRO_CUDA_CHECK(cudaGetLastError());
}

bool launch_without_solving(const cuda::ActiveParams& params, cudaStream_t stream) {
  const cuda::TableLayout& layout = params.table.layout;
  if (layout.mask_words != 8 || layout.num_gpus > 32) return false;
  const bool few = params.batch.num_ids <= 4096;
  cuda::Kernel kernel = cuda::active_kernel(cuda::DevicePolicy::kOptimal, layout, few ? 1 : 4);
  kernel.function = few ? reinterpret_cast<const void*>(&cuda::active_kernel_of<KeepBase, 8, 1, 1>)
                        : reinterpret_cast<const void*>(&cuda::active_kernel_of<KeepBase, 8, 1, 4>);
  const int threads = std::clamp((params.batch.num_ids / (few ? 4 : 16) + 31) / 32 * 32, 256, 1024);
  cuda::launch(cuda::prepared(kernel), {1, threads, false}, params, stream);
  return true;
}

}  // namespace metro::route_bench
