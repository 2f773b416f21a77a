// SPDX-License-Identifier: Apache-2.0
// Both products of every activated expert in one kernel, by Hopper's warpgroup products (wgmma).
//
// As in the portable kernel, a block takes tiles of output features, all tiles of the first product
// before those of the second, and weights run ahead into tiles that wait for their tokens. Here
// the products read both sides from shared memory: weights are the left side, 64 rows high, and
// tokens the right one, 8 to 64 wide, so that a few tokens cost little and 128 still less than the
// weights' way from memory. In fp8 tokens and activations are e4m3 too, and each 128 of the depth
// are added up with their scales in float32.
#include <algorithm>
#include <cstdint>

#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/hopper_feeds.cuh"
#include "ep/cuda/hopper_results.cuh"
#include "ep/cuda/hopper_shape.hpp"
#include "ep/cuda/hopper_tile.cuh"

namespace metro::ep::cuda {
namespace hopper {
namespace {

constexpr int kThreads = kMultiplyThreads + kFeedThreads;

// Registers change hands once a block has begun: those that multiply hold the sums.
constexpr int kStartRegisters = 65536 / kThreads / 8 * 8;
template <DataType kWeights>
constexpr int kFeedRegisters = kWeights == DataType::kBf16 ? 88 : 72;
template <DataType kWeights>
constexpr int kMultiplyRegisters =
    (kStartRegisters * kThreads - kFeedRegisters<kWeights> * kFeedThreads) / kMultiplyThreads / 8 *
    8;

// Shared memory: the rings, whose slots begin at 1,024 bytes, the results, and where each group's
// tiles end.
constexpr int kTokensAt = (WeightPlace::kBytes + 1023) / 1024 * 1024;
constexpr int kResultsAt = kTokensAt + TokenPlace::kBytes;
constexpr int kEndsAt = kResultsAt + ResultPlace::kBytes;

/// `kUp`: for fp8, which product; for bf16 both are multiplied alike.
template <DataType kWeights, bool kUp, int kTokens, int kHigh, int kDeep>
__device__ void compute_tile(const ExpertParams& params, const Tile& tile, const LanePlace& place,
                             WeightPlace& weights, TokenPlace& tokens, ResultPlace& results) {
  constexpr HopperShape kShape{kTokens, kHigh, kDeep};
  TileSums<kTokens, kHigh> sums{};
  if constexpr (kWeights == DataType::kBf16) {
    multiply_bf16<kTokens, kHigh, kDeep>(product_of(params, tile.is_up).depth, place, weights,
                                         tokens, sums);
  } else {
    static_assert(kDeep == 1);
    multiply_fp8<kTokens, kHigh, kUp>(params, tile, place, weights, tokens, sums);
  }
  if constexpr (kDeep == 2) {
    join_depth(place, results, sums[0][0]);
    if (place.warpgroup == 1) return;
  }
  const bool first_thread = place.warpgroup == 0 && place.warp == 0 && place.leads();
  if (!tile.is_up) return write_outputs<kTokens, kHigh>(params, tile, kShape, place, sums);
  if constexpr (kWeights == DataType::kBf16) {
    write_activations<kTokens, kHigh>(params, tile, kShape, place, sums);
  } else if constexpr (kHigh == 2) {
    quantize_activations<kTokens, kHigh>(params, tile, kShape, place, results, sums);
  }
  constexpr int kWriters = kDeep == 2 ? 128 : kMultiplyThreads;
  announce<kWriters, kDeep == 2 ? 3 : 2>(params, tile, first_thread);
}

template <DataType kWeights, int kSize>
__device__ void compute_tile_of_size(const ExpertParams& params, const Tile& tile,
                                     const LanePlace& place, WeightPlace& weights,
                                     TokenPlace& tokens, ResultPlace& results) {
  constexpr bool kFp8 = kWeights == DataType::kFp8;
  constexpr HopperShape kUp = hopper_shape(kFp8, true, kSize);
  constexpr HopperShape kDown = hopper_shape(kFp8, false, kSize);
  if (kFp8 && tile.is_up) {
    return compute_tile<kWeights, true, kUp.tokens, kUp.high, kUp.deep>(params, tile, place,
                                                                        weights, tokens, results);
  }
  static_assert(kFp8 || (kUp.high == kDown.high && kUp.deep == kDown.deep));
  compute_tile<kWeights, false, kDown.tokens, kDown.high, kDown.deep>(params, tile, place, weights,
                                                                      tokens, results);
}

template <DataType kWeights>
__device__ void compute_tiles(const ExpertParams& params, TileFinder finder, TileQueue queue,
                              const LanePlace& place, WeightPlace weights, TokenPlace tokens,
                              ResultPlace results) {
  for (; !queue.done(); queue.next()) {
    const Tile tile = finder.find(queue.number());
    switch (tile.size) {
      case 0:
        compute_tile_of_size<kWeights, 0>(params, tile, place, weights, tokens, results);
        break;
      case 1:
        compute_tile_of_size<kWeights, 1>(params, tile, place, weights, tokens, results);
        break;
      case 2:
        compute_tile_of_size<kWeights, 2>(params, tile, place, weights, tokens, results);
        break;
      case 3:
        compute_tile_of_size<kWeights, 3>(params, tile, place, weights, tokens, results);
        break;
      default:
        compute_tile_of_size<kWeights, 4>(params, tile, place, weights, tokens, results);
    }
  }
}

template <DataType kWeights>
__global__ void __launch_bounds__(kThreads, 1)
    expert_kernel(const __grid_constant__ ExpertParams params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const auto base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  auto* ends = reinterpret_cast<std::int32_t*>(shared + kEndsAt);

  const int num_groups = *params.plan.num_groups;
  if (num_groups == 0) return;
  const int up_tiles = params.plan.up_ends[num_groups - 1];
  const int all_tiles = up_tiles + params.plan.down_ends[num_groups - 1];
  for (int i = static_cast<int>(threadIdx.x); i < num_groups; i += kThreads) {
    ends[i] = params.plan.up_ends[i];
    ends[num_groups + i] = up_tiles + params.plan.down_ends[i];
  }
  WeightPlace weights(base);
  TokenPlace tokens(base + kTokensAt);
  ResultPlace results{base + kResultsAt};
  if (threadIdx.x == 0) {
    weights.init_all(1, 4 * kMultiplyGroups);
    tokens.init_all(32 * kTokenWarps, 4 * kMultiplyGroups);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");  // for the copy engine
  }
  if (threadIdx.x < 128) store_shared(results.largest(0) + threadIdx.x * 4, 0.0F);
  __syncthreads();
  TileFinder finder(params, ends, num_groups);
  TileQueue queue(up_tiles, all_tiles, params.geometry.extra_turns);
  if (warp >= 4 * kMultiplyGroups) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kFeedRegisters<kWeights>));
    const int feed = warp - 4 * kMultiplyGroups;
    if (feed < kTokenWarps) {
      TokenFeed<kWeights>(params, tokens, feed).run(finder, queue);
    } else if (feed == kTokenWarps && lane == 0) {
      WeightFeed<kWeights>(params, weights).run(finder, queue);
    }
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters<kWeights>));
    const LanePlace place{warp / 4, warp % 4, lane};
    compute_tiles<kWeights>(params, finder, queue, place, weights, tokens, results);
  }
}

ExpertProduct cut_product(int features, int depth, bool fp8, bool is_up) {
  ExpertProduct product{
      .features = features, .depth = depth, .deep = {}, .tile_features = {}, .tiles = {}};
  for (int i = 0; i < kTokenClasses; ++i) {
    const HopperShape shape = hopper_shape(fp8, is_up, i);
    product.deep[i] = shape.deep;
    product.tile_features[i] = block_features(is_up) * shape.high * kMultiplyGroups / shape.deep;
    product.tiles[i] = count_tiles(features, product.tile_features[i]);
  }
  return product;
}

ExpertGeometry cut(const ExpertStageSizes& sizes) {
  const bool fp8 = sizes.weights == DataType::kFp8;
  ExpertGeometry geometry{.up = cut_product(sizes.intermediate, sizes.hidden, fp8, true),
                          .down = cut_product(sizes.hidden, sizes.intermediate, fp8, false),
                          .group_tokens = 8 << (kTokenClasses - 1),
                          .busy_halves = 2,
                          .extra_turns = 0};
  // A tile reads as many rows of weights in either product.
  const auto rows = [](const ExpertProduct& product, bool is_up) {
    return product.tile_features[0] * (is_up ? 2 : 1) * product.depth;
  };
  geometry.extra_turns = rows(geometry.up, true) / rows(geometry.down, false);
  return geometry;
}

auto* kernel_of(DataType weights) {
  return weights == DataType::kFp8 ? expert_kernel<DataType::kFp8> : expert_kernel<DataType::kBf16>;
}

ExpertLaunch prepare(const ExpertStageSizes& sizes, int max_groups) {
  ExpertLaunch launch =
      resident_blocks(reinterpret_cast<const void*>(kernel_of(sizes.weights)), kThreads, kEndsAt,
                      max_groups, cut(sizes).group_tokens, shared_memory_limit(sizes.shared_limit));
  launch.variant = sizes.weights == DataType::kFp8 ? 1 : 0;
  return launch;
}

void launch(const ExpertParams& params, const ExpertLaunch& launch, cudaStream_t stream) {
  launch_resident(kernel_of(launch.variant == 1 ? DataType::kFp8 : DataType::kBf16), kThreads,
                  params, launch, stream);
}

/// Not narrow bf16 shards with few tokens: a tile is over before its beginning is paid for, and the
/// portable kernel is faster (moe-TP in data/results/layers.csv against layers-hopper.csv).
bool suits(const ExpertStageSizes& sizes) {
  const bool narrow = sizes.weights == DataType::kBf16 && sizes.intermediate <= 512;
  const bool few = static_cast<std::int64_t>(sizes.max_tokens) * sizes.topk < 8 * sizes.num_slots;
  return !(narrow && few);
}

/// Where a token's row begins is counted in 32 bits.
bool rows_fit(const ExpertStageSizes& sizes) {
  const double value_bytes = sizes.weights == DataType::kFp8 ? 1 : 2;
  const double activations = 1.0 * sizes.max_tokens * sizes.topk * (sizes.intermediate + 127);
  const double most = std::max(1.0 * sizes.max_tokens * sizes.hidden, activations) * value_bytes;
  return most < 4294967295.0;
}

bool serves(const ExpertStageSizes& sizes, int capability) {
  return capability == 90 && rows_fit(sizes) && has_weight_maps() &&
         shared_memory_limit(sizes.shared_limit) >= kEndsAt + 8 * 1024;
}

}  // namespace
}  // namespace hopper

const ExpertKernel kHopperExpertKernel{
    .name = "hopper",
    .serves = hopper::serves,
    .suits = hopper::suits,
    .quantizes = [](DataType weights) { return weights == DataType::kFp8; },
    .needs_maps = true,
    .cut = hopper::cut,
    .prepare = hopper::prepare,
    .launch = hopper::launch,
};

}  // namespace metro::ep::cuda
