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
#include "ep/cuda/expert_tiles.cuh"
#include "metro/error.hpp"

namespace metro::ep::gpu {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kStages = 4;
constexpr int kStageBytes = 128;  // of a row
constexpr int kPieces = 8;        // 16-byte loads of a lane for a stage: 2 of each of 4 rows
constexpr int kWarpBytes = kStages * kPieces * 32 * 16;
constexpr int kSumStride = 9;  // 8 tokens, and one to spread the banks
constexpr int kSumFloats = 2 * 16 * kSumStride;
constexpr int kFixedBytes = kWarps * (kWarpBytes + kSumFloats * 4);

/// Where a tile lies; the same for all threads of a block.
struct Tile {
  bool is_up;
  int group_index;
  ExpertGroup group;
  int deep;   ///< warps that share its depth
  int first;  ///< output feature
};

/// Finds tiles by their number, which must not fall from call to call.
class TileFinder {
 public:
  __device__ TileFinder(const ExpertParams& params, const std::int32_t* ends, int num_groups)
      : params_(params), ends_(ends), num_groups_(num_groups) {}

  __device__ Tile find(int number) {
    while (number >= ends_[at_]) ++at_;
    Tile tile;
    tile.is_up = at_ < num_groups_;
    tile.group_index = tile.is_up ? at_ : at_ - num_groups_;
    tile.group = params_.plan.groups[tile.group_index];
    const ExpertProduct& product = tile.is_up ? params_.up : params_.down;
    const int size = token_class(tile.group.count);
    tile.deep = product.warps_deep[size];
    tile.first =
        (number - ends_[at_] + product.tiles[size]) * (tile.is_up ? 16 : 32) * (kWarps / tile.deep);
    return tile;
  }

 private:
  const ExpertParams& params_;
  const std::int32_t* ends_;  // [2 * groups] of the first product, then of the second
  int num_groups_;
  int at_ = 0;
};

/// Row of the weight matrix that is row `row` (0 to 31) of this warp's part of a tile. The first
/// product's upper half is the gate, its lower half the matching rows of the up projection.
__device__ int weight_row(const ExpertProduct& product, const Tile& tile, int warp_high, int row) {
  if (!tile.is_up) return min(tile.first + warp_high * 32 + row, product.features - 1);
  const int feature = min(tile.first + warp_high * 16 + row % 16, product.features - 1);
  return row < 16 ? feature : product.features + feature;
}

/// The warp's place in the stream of weights that it copies.
template <int kValueBytes>
class Copier {
 public:
  __device__ Copier(const ExpertParams& params, const TileFinder& finder, int num_tiles,
                    std::uint32_t ring)
      : params_(params), finder_(finder), num_tiles_(num_tiles), ring_(ring) {
    tile_ = static_cast<int>(blockIdx.x);
    open();
  }

  /// Starts the copies of one stage (none after the last tile), and ends the stage.
  __device__ void next() {
    if (tile_ < num_tiles_) {
      const std::uint32_t to = ring_ + static_cast<std::uint32_t>(stage_ * kPieces * 32 * 16);
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece) {
        const int byte = byte_ + piece % 2 * (kStageBytes / 2);
        const bool past = byte >= row_bytes_;
        copy_async(to + static_cast<std::uint32_t>(piece * 32 * 16),
                   rows_[piece / 2] + (past ? 0 : byte), past);
      }
      byte_ += step_;
      if (byte_ >= end_) {
        tile_ += static_cast<int>(gridDim.x);
        open();
      }
      stage_ = stage_ + 1 == kStages ? 0 : stage_ + 1;
    }
    end_copy_stage();
  }

 private:
  __device__ void open() {
    if (tile_ >= num_tiles_) return;
    const Tile tile = finder_.find(tile_);
    const ExpertProduct& product = tile.is_up ? params_.up : params_.down;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int deep = warp % tile.deep;
    const void* const* slots = tile.is_up ? params_.weights.gate_up : params_.weights.down;
    const auto* matrix = static_cast<const char*>(slots[tile.group.slot]);
    row_bytes_ = product.depth * kValueBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = weight_row(product, tile, warp / tile.deep, i * 8 + lane / 4);
      rows_[i] = matrix + static_cast<std::size_t>(row) * static_cast<std::size_t>(row_bytes_);
    }
    const int lane_byte = lane % 4 * 16;
    byte_ = deep * kStageBytes + lane_byte;
    step_ = tile.deep * kStageBytes;
    end_ = (row_bytes_ + kStageBytes - 1) / kStageBytes * kStageBytes;
  }

  const ExpertParams& params_;
  TileFinder finder_;
  int num_tiles_;
  std::uint32_t ring_;
  int stage_ = 0;
  int tile_;
  const char* rows_[4];  // at offsets 0, 8, 16 and 24 from the lane's own
  int row_bytes_;
  int byte_;
  int step_;
  int end_;
};

/// Sums of one warp: 2 halves of 16 features, by tokens.
template <int kTokenTiles>
struct Sums {
  float values[2][kTokenTiles][4];
};

/// A stage's values of one token for one lane: as many as the lane has of each weight row.
template <DataType kWeights>
constexpr int kTokenLoads = kWeights == DataType::kBf16 ? 2 : 4;

/// Reads the tokens of one stage. All loads start before any is needed: under a full memory system
/// each takes long.
template <DataType kWeights, int kTokenTiles>
__device__ void load_tokens(const __nv_bfloat16* base,
                            const std::uint32_t (&token_offsets)[kTokenTiles], int value, int depth,
                            uint4 (&tokens)[kTokenLoads<kWeights>][kTokenTiles]) {
  constexpr int kPieceLoads = kTokenLoads<kWeights> / 2;
#pragma unroll
  for (int load = 0; load < kTokenLoads<kWeights>; ++load) {
    // Past the end the weights are zero; any finite values do.
    int at = value + load / kPieceLoads * (32 * kPieceLoads) + load % kPieceLoads * 8;
    if (at >= depth) at = 0;
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      tokens[load][j] = *reinterpret_cast<const uint4*>(base + token_offsets[j] + at);
    }
  }
}

/// 8 values of a lane for each of its weight rows (0, 8, 16 and 24), times the tokens. Sums take
/// turns: a product that follows on the same sum would wait for it.
template <int kTokenTiles>
__device__ void multiply_piece(const uint4 (&a)[4], const uint4 (&b)[kTokenTiles],
                               Sums<kTokenTiles>& sums) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      multiply_add(sums.values[half][j], a[2 * half].x, a[2 * half + 1].x, a[2 * half].y,
                   a[2 * half + 1].y, b[j].x, b[j].y);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
      multiply_add(sums.values[half][j], a[2 * half].z, a[2 * half + 1].z, a[2 * half].w,
                   a[2 * half + 1].w, b[j].z, b[j].w);
    }
  }
}

/// One stage: 128 bytes of 32 weight rows, times the tokens.
template <DataType kWeights, int kTokenTiles>
__device__ void multiply_stage(std::uint32_t stage,
                               const uint4 (&tokens)[kTokenLoads<kWeights>][kTokenTiles],
                               Sums<kTokenTiles>& sums) {
#pragma unroll
  for (int piece = 0; piece < 2; ++piece) {
    uint4 a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[i] = load_shared(stage + static_cast<std::uint32_t>((i * 2 + piece) * 32 * 16));
    }
    if constexpr (kWeights == DataType::kBf16) {
      multiply_piece(a, tokens[piece], sums);
    } else {
#pragma unroll
      for (int part = 0; part < 2; ++part) {  // 8 of the lane's 16 values
        uint4 wide[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const uint2 low = widen_fp8(part == 0 ? a[i].x : a[i].z);
          const uint2 high = widen_fp8(part == 0 ? a[i].y : a[i].w);
          wide[i] = {low.x, low.y, high.x, high.y};
        }
        multiply_piece(wide, tokens[2 * piece + part], sums);
      }
    }
  }
}

/// Adds up the warps that share a tile's depth, and writes 8 tokens' features.
__device__ void write_tile(const ExpertParams& params, const Tile& tile, const float* all_sums,
                           int first_token) {
  const ExpertProduct& product = tile.is_up ? params.up : params.down;
  const int deep = tile.deep;
  const int rows = tile.is_up ? 16 : 32;
  const int features = rows * (kWarps / deep);
  const int num_tokens = min(8, tile.group.count - first_token);
  for (int i = static_cast<int>(threadIdx.x); i < 8 * features; i += kThreads) {
    const int token = i / features;
    const int feature = i % features;
    if (token >= num_tokens || tile.first + feature >= product.features) continue;
    const float* first =
        all_sums + feature / rows * deep * kSumFloats + feature % rows * kSumStride + token;
    float gate = 0;
    float up = 0;
    for (int warp = 0; warp < deep; ++warp) {
      gate += first[warp * kSumFloats];
      if (tile.is_up) up += first[warp * kSumFloats + 16 * kSumStride];
    }
    const auto row = static_cast<std::size_t>(tile.group.begin + first_token + token);
    if (tile.is_up) {
      const float activation = gate / (1.0F + __expf(-gate)) * up;
      params.activations[row * static_cast<unsigned>(params.activation_stride) +
                         static_cast<unsigned>(tile.first + feature)] =
          __float2bfloat16_rn(activation);
    } else {
      params.outputs[row * static_cast<unsigned>(params.hidden) +
                     static_cast<unsigned>(tile.first + feature)] = __float2bfloat16_rn(gate);
    }
  }
}

template <DataType kWeights, int kTokenTiles>
__device__ void compute_tile(const ExpertParams& params, const Tile& tile,
                             Copier<kWeights == DataType::kBf16 ? 2 : 1>& copier, int& stage,
                             std::uint32_t ring, float* all_sums) {
  constexpr int kStageValues = kWeights == DataType::kBf16 ? kStageBytes / 2 : kStageBytes;
  constexpr int kLaneValues = kStageValues / 8;
  const ExpertProduct& product = tile.is_up ? params.up : params.down;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int deep = warp % tile.deep;
  const int high = warp / tile.deep;

  const __nv_bfloat16* base = tile.is_up ? params.tokens : params.activations;
  std::uint32_t token_offsets[kTokenTiles];
#pragma unroll
  for (int j = 0; j < kTokenTiles; ++j) {
    const int row = tile.group.begin + min(j * 8 + lane / 4, tile.group.count - 1);
    token_offsets[j] =
        tile.is_up ? static_cast<std::uint32_t>(params.plan.row_to_assignment[row] / params.topk) *
                         static_cast<std::uint32_t>(params.hidden)
                   : static_cast<std::uint32_t>(row) *
                         static_cast<std::uint32_t>(params.activation_stride);
  }
  const float* scales[2] = {};
  if constexpr (kWeights == DataType::kFp8) {
    const float* const* slots =
        tile.is_up ? params.weights.gate_up_scales : params.weights.down_scales;
    const int blocks = (product.depth + 127) / 128;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      scales[half] =
          slots[tile.group.slot] + weight_row(product, tile, high, 16 * half) / 128 * blocks;
    }
  }

  Sums<kTokenTiles> sums{};
  float scale[2] = {1, 1};
  const int lane_value = lane % 4 * kLaneValues;
  for (int first = deep * kStageValues; first < product.depth; first += tile.deep * kStageValues) {
    uint4 tokens[kTokenLoads<kWeights>][kTokenTiles];
    load_tokens<kWeights>(base, token_offsets, first + lane_value, product.depth, tokens);
    if constexpr (kWeights == DataType::kFp8) {
      // Sums are kept in units of the stage's scale: fewer registers than sums of their own.
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float next = scales[half][first / kStageValues];
        if (next == 0) continue;  // a block of zeros
        const float ratio = scale[half] / next;
        scale[half] = next;
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sums.values[half][j][i] *= ratio;
        }
      }
    }
    wait_copy_stage<kStages - 1>();
    multiply_stage<kWeights>(ring + static_cast<std::uint32_t>(stage * kPieces * 32 * 16), tokens,
                             sums);
    stage = stage + 1 == kStages ? 0 : stage + 1;
    copier.next();
  }

  float* mine = all_sums + warp * kSumFloats + lane / 4 * kSumStride + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < kTokenTiles; ++j) {
    if (j * 8 >= tile.group.count) break;
    __syncthreads();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        mine[(half * 16 + i / 2 * 8) * kSumStride + i % 2] = scale[half] * sums.values[half][j][i];
      }
    }
    __syncthreads();
    write_tile(params, tile, all_sums, j * 8);
  }
}

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
