// SPDX-License-Identifier: Apache-2.0
// Both products of every activated expert in one kernel, made to read weights at the speed of
// memory.
//
// A block takes tiles of output features, all tiles of the first product before those of the
// second. In a tile, each of 8 warps reads 32 weight rows over its part of the depth, 128 bytes of
// a row at a time, by asynchronous copies that run kStages ahead and on into the next tile: weights
// depend on nothing, so the copies never wait, neither for sums nor for the first product to end. A
// lane reads back only what it copied itself, which needs no barrier. Weights are the left side of
// the tensor core's product, 16 features high, and tokens its right side, 8 wide: that suits few
// tokens. The order of the values in a dot product is free, so a lane's 16 bytes serve as they lie.
#include <algorithm>
#include <string>

#include "cuda/check.hpp"
#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/expert_product.cuh"
#include "metro/error.hpp"

namespace metro::ep::gpu {
namespace {

template <DataType kWeights>
__global__ void __launch_bounds__(kThreads, 1)
    expert_kernel(const __grid_constant__ ExpertParams params) {
  extern __shared__ __align__(16) unsigned char shared[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto ring = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared)) +
                    static_cast<std::uint32_t>(warp * kWarpBytes + lane * 16);
  auto* all_sums = reinterpret_cast<float*>(shared + kWarps * kWarpBytes);

  // Tiles are numbered through both products; where each group's end is searched often.
  const int num_groups = *params.plan.num_groups;
  if (num_groups == 0) return;
  const int up_tiles = params.plan.up_ends[num_groups - 1];
  const int num_tiles = up_tiles + params.plan.down_ends[num_groups - 1];
  auto* ends = reinterpret_cast<std::int32_t*>(all_sums + kWarps * kSumFloats);
  for (int i = static_cast<int>(threadIdx.x); i < num_groups; i += kThreads) {
    ends[i] = params.plan.up_ends[i];
    ends[num_groups + i] = up_tiles + params.plan.down_ends[i];
  }
  __syncthreads();
  TileFinder finder(params, ends, num_groups);
  Copier<kWeights == DataType::kBf16 ? 2 : 1> copier(params, finder, num_tiles, ring);
#pragma unroll
  for (int i = 0; i < kStages; ++i) copier.next();

  int stage = 0;
  for (int number = static_cast<int>(blockIdx.x); number < num_tiles;
       number += static_cast<int>(gridDim.x)) {
    const Tile tile = finder.find(number);
    if (!tile.is_up) {
      // All blocks are resident, and each does its tiles of the first product first: this ends.
      const int all = params.up.tiles[token_class(tile.group.count)];
      while (load_acquire(params.plan.tiles_done + tile.group_index) < all) {
      }
      __syncwarp();
    }
    switch (token_class(tile.group.count)) {
      case 0:
        compute_tile<kWeights, 1>(params, tile, copier, stage, ring, all_sums);
        break;
      case 1:
        compute_tile<kWeights, 2>(params, tile, copier, stage, ring, all_sums);
        break;
      case 2:
        compute_tile<kWeights, 4>(params, tile, copier, stage, ring, all_sums);
        break;
      default:
        compute_tile<kWeights, 8>(params, tile, copier, stage, ring, all_sums);
    }
    if (tile.is_up) {
      __syncthreads();
      if (threadIdx.x == 0) {
        __threadfence();
        add_release(params.plan.tiles_done + tile.group_index);
      }
    }
  }
}

using ExpertKernel = void (*)(ExpertParams);

ExpertKernel kernel_of(DataType weights) {
  return weights == DataType::kFp8 ? expert_kernel<DataType::kFp8> : expert_kernel<DataType::kBf16>;
}

/// Few tokens: all warps share the depth of low tiles, which spreads small experts over the whole
/// GPU. The more tokens, the higher the tiles, so that the tokens, which every tile reads again,
/// stay a small part of the traffic; fp8 weights count for half of it.
ExpertProduct cut(int features, int depth, int rows, DataType weights) {
  const bool fp8 = weights == DataType::kFp8;
  const int stages = (depth * (fp8 ? 1 : 2) + kStageBytes - 1) / kStageBytes;
  ExpertProduct product{.features = features, .depth = depth, .warps_deep = {}, .tiles = {}};
  for (int i = 0; i < kTokenClasses; ++i) {
    int deep = std::max((fp8 ? kWarps / 2 : kWarps) >> i, 2);
    while (deep > 1 && stages / deep < 3) deep /= 2;
    const int tile = rows * (kWarps / deep);
    product.warps_deep[i] = deep;
    product.tiles[i] = (features + tile - 1) / tile;
  }
  return product;
}

}  // namespace

ExpertParams cut_tiles(const ExpertStageSizes& sizes) {
  ExpertParams params{};
  params.up = cut(sizes.intermediate, sizes.hidden, 16, sizes.weights);
  params.down = cut(sizes.hidden, sizes.intermediate, 32, sizes.weights);
  params.topk = sizes.topk;
  params.hidden = sizes.hidden;
  return params;
}

ExpertLaunch prepare_experts(DataType weights, int max_groups) {
  ExpertLaunch launch{.weights = weights, .blocks = 0, .shared_bytes = 0};
  const auto* function = reinterpret_cast<const void*>(kernel_of(weights));
  int device = 0;
  int multiprocessors = 0;
  int resident = 0;
  int most_shared = 0;
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  METRO_CUDA_CHECK(
      cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const int most_groups = (most_shared - kFixedBytes) / 8;
  if (max_groups > most_groups) {
    throw Error(ErrorCode::kUsage, "expert stage: at most " +
                                       std::to_string(most_groups * kGroupTokens) +
                                       " (token, k) pairs fit this device");
  }
  launch.shared_bytes = kFixedBytes + max_groups * 8;
  METRO_CUDA_CHECK(
      cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared));
  METRO_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &resident, function, kThreads, static_cast<std::size_t>(launch.shared_bytes)));
  launch.blocks = multiprocessors * std::max(resident, 1);
  return launch;
}

void launch_experts(const ExpertParams& params, const ExpertLaunch& launch, cudaStream_t stream) {
  // Cooperative, so that all blocks are resident: tiles wait for other blocks' tiles.
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<std::size_t>(launch.shared_bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  METRO_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel_of(launch.weights), params));
}

}  // namespace metro::ep::gpu
