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

#include "ep/cuda/device_instructions.cuh"
#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/expert_schedule.cuh"
#include "ep/cuda/portable_multiply.cuh"
#include "ep/cuda/portable_sums.cuh"
#include "ep/cuda/portable_token_feed.cuh"
#include "ep/cuda/portable_weight_ring.cuh"
#include "ep/cuda/sum_unit.hpp"

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
  const ExpertProduct& product = product_of(params, tile.is_up);
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
  TileQueue queue(up_tiles, all_tiles, params.geometry.extra_turns);
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

struct KernelInfo {
  void (*function)(ExpertParams);
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
ExpertProduct cut_product(int features, int depth, int rows, DataType weights) {
  const bool fp8 = weights == DataType::kFp8;
  const int stages = (depth * (fp8 ? 1 : 2) + kStageBytes - 1) / kStageBytes;
  ExpertProduct product{
      .features = features, .depth = depth, .deep = {}, .tile_features = {}, .tiles = {}};
  for (int i = 0; i < kTokenClasses; ++i) {
    int deep = std::max((fp8 ? kWarps / 2 : kWarps) >> i, 2);
    while (deep > 1 && stages / deep < 3) deep /= 2;
    product.deep[i] = deep;
    product.tile_features[i] = rows * (kWarps / deep);
    product.tiles[i] = count_tiles(features, product.tile_features[i]);
  }
  return product;
}

/// Tiles of the second product that read as much as one of the first, for few tokens.
int extra_turns(const ExpertProduct& up, const ExpertProduct& down) {
  const int up_work = up.depth / up.deep[0];
  const int down_work = down.depth / down.deep[0];
  return up_work / std::max(down_work, 1);
}

ExpertGeometry cut(const ExpertStageSizes& sizes) {
  ExpertGeometry geometry{.up = cut_product(sizes.intermediate, sizes.hidden, 16, sizes.weights),
                          .down = cut_product(sizes.hidden, sizes.intermediate, 32, sizes.weights),
                          .group_tokens = kGroupTokens,
                          .busy_halves = 4,
                          .extra_turns = 0};
  geometry.extra_turns = extra_turns(geometry.up, geometry.down);
  return geometry;
}

ExpertLaunch prepare(const ExpertStageSizes& sizes, int max_groups) {
  const int most_shared = shared_memory_limit(sizes.shared_limit);
  const bool large = kernel_of(sizes.weights, true).shared_bytes + max_groups * 8 <= most_shared;
  const KernelInfo kernel = kernel_of(sizes.weights, large);
  ExpertLaunch launch = resident_blocks(reinterpret_cast<const void*>(kernel.function), kThreads,
                                        kernel.shared_bytes, max_groups, kGroupTokens, most_shared);
  launch.variant = (sizes.weights == DataType::kFp8 ? 2 : 0) + (large ? 1 : 0);
  return launch;
}

void launch(const ExpertParams& params, const ExpertLaunch& launch, cudaStream_t stream) {
  const DataType weights = launch.variant / 2 == 1 ? DataType::kFp8 : DataType::kBf16;
  launch_resident(kernel_of(weights, launch.variant % 2 == 1).function, kThreads, params, launch,
                  stream);
}

}  // namespace

const ExpertKernel kPortableExpertKernel{
    .name = "portable",
    .serves = [](const ExpertStageSizes&, int) { return true; },
    .suits = [](const ExpertStageSizes&) { return true; },
    .quantizes = [](DataType) { return false; },
    .needs_maps = false,
    .cut = cut,
    .prepare = prepare,
    .launch = launch,
};

}  // namespace metro::ep::cuda
