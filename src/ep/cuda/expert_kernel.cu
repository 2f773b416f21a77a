// SPDX-License-Identifier: Apache-2.0
// Both products of every activated expert in one kernel, made to read weights at the speed of
// memory.
//
// A block takes tiles of output features, all tiles of the first product before those of the
// second. In a tile, each of 8 warps reads 32 weight rows over its part of the depth, 128 bytes of
// a row at a time, by asynchronous copies that run kStages ahead and on into the next tile: weights
// depend on nothing, so the copies wait neither for sums nor for the first product to end. Two more
// warps bring the tokens, which the warps share, and alone wait for the first product; two others
// add up the sums and write them. Weights are the left side of the tensor core's product, 16
// features high, and tokens its right side, 8 wide: that suits few tokens. The order of the values
// in a dot product is free, so a lane's 16 bytes serve as they lie.
#include <algorithm>
#include <string>

#include "cuda/check.hpp"
#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/expert_multiply.cuh"
#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/expert_sums.cuh"
#include "ep/cuda/expert_tiles.cuh"
#include "ep/cuda/expert_token_feed.cuh"
#include "ep/cuda/expert_weight_ring.cuh"
#include "ep/cuda/sum_unit.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

constexpr int kThreads = 32 * (kWarps + kFeedWarps + kSumWarps);

/// A kernel of ours: for which weights, and how deep its rings are. The large one needs Hopper's
/// shared memory, the small one fits an A100.
template <DataType kWeightType, bool kLarge>
struct Variant {
  static constexpr DataType kWeights = kWeightType;
  static constexpr bool kIsBf16 = kWeights == DataType::kBf16;
  static constexpr int kStages = kLarge ? 4 : 3;
  using Weights = WeightRing<kIsBf16 ? 2 : 1, kStages>;
  using Tokens = RingPlace<(kIsBf16 ? 3 : 2) * (kLarge ? 2 : 1), kTokenSlotBytes<kWeights>>;

  // Shared memory: the weights' stages, the tokens, sums, and where each group's tiles end.
  static constexpr int kWarpBytes = kStages * kWarpStageBytes;
  static constexpr int kTokensAt = kWarps * kWarpBytes;
  static constexpr int kSumsAt = kTokensAt + Tokens::kBytes;
  static constexpr int kEndsAt = kSumsAt + SumPlace::kBytes;
};

template <class Variant, int kTokenTiles>
__device__ void compute_tile(const ExpertParams& params, const Tile& tile,
                             typename Variant::Weights& weights, typename Variant::Tokens& slot,
                             SumPlace& sum_slot) {
  constexpr DataType kWeights = Variant::kWeights;
  constexpr int kLaneValues = kStageValues<kWeights> / 8;
  constexpr int kSlots = slots_of(kTokenTiles);
  const ExpertProduct& product = tile.is_up ? params.up : params.down;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int deep = warp % tile.deep;
  const int high = warp / tile.deep;
  const int pitch = token_pitch<kWeights>(tile.deep);
  const int lane_value = lane % 4 * kLaneValues;
  LaneTokens<kTokenTiles> place{};
  place.lane_byte = static_cast<std::uint32_t>(lane / 4 * pitch +
                                               (deep * kStageValues<kWeights> + lane_value) * 2);
  place.pitch = pitch;
  ScaleRow<kWeights> scales(params, tile, high);

  Sums<kTokenTiles> sums{};
  SumUnit unit[2];  // of each half, for fp8
  const int step = tile.deep * kStageValues<kWeights>;
  for (int at = 0; at < product.depth; at += step) {
    const int first = at + deep * kStageValues<kWeights>;
    place.values_left = product.depth - first - lane_value;
    std::uint32_t emptied[kSlots];
#pragma unroll
    for (int i = 0; i < kSlots; ++i) {
      place.slots[i] = slot.bytes();
      emptied[i] = slot.empty();
      slot.wait_full();
      slot.next();
    }
    if (first < product.depth) {
      __nv_bfloat162 fp8_scale[2];
      if constexpr (kWeights == DataType::kFp8) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float ratio = unit[half].take(scales.at(half, first / kStageValues<kWeights>));
          const std::uint32_t factor = unit[half].weight_factor() * 0x10001U;
          memcpy(&fp8_scale[half], &factor, sizeof factor);
#pragma unroll
          for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums.values[half][j][i] *= ratio;
          }
        }
      }
      multiply_stage<kWeights>(weights.wait(), place, fp8_scale, sums);
      weights.copy_next();
    }
    __syncwarp();
    if (lane == 0) {
#pragma unroll
      for (int i = 0; i < kSlots; ++i) arrive(emptied[i]);
    }
  }

  float scale[2] = {1, 1};
  if constexpr (kWeights == DataType::kFp8) {
#pragma unroll
    for (int half = 0; half < 2; ++half) scale[half] = unit[half].value();
  }
  const auto mine =
      static_cast<std::uint32_t>((warp * kSumFloats + lane % 4 * 2 * kSumStride + lane / 4) * 4);
#pragma unroll
  for (int j = 0; j < kTokenTiles; ++j) {
    if (j * 8 >= tile.group.count) break;
    sum_slot.wait_empty();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = i % 2 * kSumStride + half * 16 + i / 2 * 8;
        store_shared(sum_slot.bytes() + mine + static_cast<std::uint32_t>(at * 4),
                     scale[half] * sums.values[half][j][i]);
      }
    }
    __syncwarp();
    if (lane == 0) arrive(sum_slot.full());
    sum_slot.next();
  }
}

template <class Variant>
__global__ void __launch_bounds__(kThreads, 1)
    expert_kernel(const __grid_constant__ ExpertParams params) {
  extern __shared__ __align__(128) unsigned char shared[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  auto* ends = reinterpret_cast<std::int32_t*>(shared + Variant::kEndsAt);

  // Tiles are numbered through both products; where each group's end is searched often.
  const int num_groups = *params.plan.num_groups;
  if (num_groups == 0) return;
  const int up_tiles = params.plan.up_ends[num_groups - 1];
  const int all_tiles = up_tiles + params.plan.down_ends[num_groups - 1];
  for (int i = static_cast<int>(threadIdx.x); i < num_groups; i += kThreads) {
    ends[i] = params.plan.up_ends[i];
    ends[num_groups + i] = up_tiles + params.plan.down_ends[i];
  }
  typename Variant::Tokens tokens(base + Variant::kTokensAt);
  SumPlace sums(base + Variant::kSumsAt);
  if (threadIdx.x == 0) {
    tokens.init_all(32 * kFeedWarps, kWarps);
    sums.init_all(kWarps, kSumWarps);
  }
  __syncthreads();
  TileFinder finder(params, ends, num_groups);
  TileQueue queue(up_tiles, all_tiles, params.extra_turns);
  if (warp >= kWarps + kFeedWarps) {
    const int thread = static_cast<int>(threadIdx.x) - 32 * (kWarps + kFeedWarps);
    return add_sums(params, finder, queue, sums, thread);
  }
  if (warp >= kWarps) {
    return TokenFeed<Variant::kWeights, typename Variant::Tokens>(params, tokens, warp - kWarps)
        .run(finder, queue);
  }

  typename Variant::Weights weights(
      params, finder, queue,
      base + static_cast<std::uint32_t>(warp * Variant::kWarpBytes + lane * 16));
  for (; !queue.done(); queue.next()) {
    const Tile tile = finder.find(queue.number());
    switch (token_class(tile.group.count)) {
      case 0:
        compute_tile<Variant, 1>(params, tile, weights, tokens, sums);
        break;
      case 1:
        compute_tile<Variant, 2>(params, tile, weights, tokens, sums);
        break;
      case 2:
        compute_tile<Variant, 4>(params, tile, weights, tokens, sums);
        break;
      default:
        compute_tile<Variant, 8>(params, tile, weights, tokens, sums);
    }
  }
}

using ExpertKernel = void (*)(ExpertParams);

struct KernelInfo {
  ExpertKernel function;
  int shared_bytes;  ///< without the ends of the groups
};

template <DataType kWeights, bool kLarge>
constexpr KernelInfo info_of() {
  using Of = Variant<kWeights, kLarge>;
  return {expert_kernel<Of>, Of::kEndsAt};
}

KernelInfo kernel_of(DataType weights, bool large) {
  if (weights == DataType::kFp8) {
    return large ? info_of<DataType::kFp8, true>() : info_of<DataType::kFp8, false>();
  }
  return large ? info_of<DataType::kBf16, true>() : info_of<DataType::kBf16, false>();
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

/// Tiles of the second product that read as much as one of the first, for few tokens.
int extra_turns(const ExpertProduct& up, const ExpertProduct& down) {
  const int up_work = up.depth / up.warps_deep[0];
  const int down_work = down.depth / down.warps_deep[0];
  return up_work / std::max(down_work, 1);
}

}  // namespace

ExpertParams cut_tiles(const ExpertStageSizes& sizes) {
  ExpertParams params{};
  params.up = cut(sizes.intermediate, sizes.hidden, 16, sizes.weights);
  params.down = cut(sizes.hidden, sizes.intermediate, 32, sizes.weights);
  params.extra_turns = extra_turns(params.up, params.down);
  params.topk = sizes.topk;
  params.hidden = sizes.hidden;
  return params;
}

ExpertLaunch prepare_experts(DataType weights, int max_groups, int shared_limit) {
  int device = 0;
  int multiprocessors = 0;
  int resident = 0;
  int most_shared = 0;
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(
      cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  METRO_CUDA_CHECK(
      cudaDeviceGetAttribute(&most_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  if (shared_limit > 0) most_shared = std::min(most_shared, shared_limit);
  const int ends_bytes = max_groups * 8;
  const bool large = kernel_of(weights, true).shared_bytes + ends_bytes <= most_shared;
  const KernelInfo kernel = kernel_of(weights, large);
  const int most_groups = (most_shared - kernel.shared_bytes) / 8;
  if (max_groups > most_groups) {
    throw Error(ErrorCode::kUsage, "expert stage: at most " +
                                       std::to_string(std::max(most_groups, 0) * kGroupTokens) +
                                       " (token, k) pairs fit this device");
  }
  ExpertLaunch launch{
      .weights = weights, .large = large, .shared_bytes = kernel.shared_bytes + ends_bytes};
  const auto* function = reinterpret_cast<const void*>(kernel.function);
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
  METRO_CUDA_CHECK(
      cudaLaunchKernelEx(&config, kernel_of(launch.weights, launch.large).function, params));
}

}  // namespace metro::ep::cuda
