// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/expert_copier.cuh"

/// What the expert kernel does with a tile of weights once it is there (expert_kernel.cu).
namespace metro::ep::gpu {

/// Sums of one warp: 2 halves of 16 features, by tokens.
template <int kTokenTiles>
struct Sums {
  float values[2][kTokenTiles][4];
};

/// A stage's values of one token for one lane: as many as the lane has of each weight row.
template <DataType kWeights>
inline constexpr int kTokenLoads = kWeights == DataType::kBf16 ? 2 : 4;

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
inline __device__ void write_tile(const ExpertParams& params, const Tile& tile,
                                  const float* all_sums, int first_token) {
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

}  // namespace metro::ep::gpu
