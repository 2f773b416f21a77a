// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime.h>

#include <cfloat>

#include "cuda/check.hpp"
#include "ep/cuda/topk_kernel.hpp"

namespace metro::ep::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr unsigned kAllLanes = 0xffffffffU;
constexpr unsigned kNever = 0;  // key of what may not be chosen (again); below any float's

/// Orders as finite floats do; +0 and -0 are one.
__device__ unsigned key_of(float value) {
  const unsigned bits = __float_as_uint(value + 0.0F);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

__device__ float finite(float logit) {
  return isnan(logit) ? -FLT_MAX : fminf(fmaxf(logit, -FLT_MAX), FLT_MAX);
}

/// In double, so that the sum of a group does not hang on how a machine rounds exp; 0 where exp
/// overflows in float.
__device__ float sigmoid(float logit) {
  const double power = exp(-static_cast<double>(logit));
  return power > FLT_MAX ? 0.0F : static_cast<float>(1.0 / (1.0 + power));
}

/// The lane with the largest key, the lowest `id` among equals; -1 if no key is above kNever.
struct Best {
  unsigned key;
  int id;
};
__device__ Best best_of_warp(Best mine) {
  const unsigned key = __reduce_max_sync(kAllLanes, mine.key);
  const unsigned id = mine.key == key ? static_cast<unsigned>(mine.id) : ~0U;
  return {key, key == kNever ? -1 : static_cast<int>(__reduce_min_sync(kAllLanes, id))};
}

/// Bit per group: those that the token may choose from, by the sum of their two best scores
/// (sigmoid) or by their best (softmax). `scores` are one row's, in shared memory.
__device__ unsigned best_groups(const TopkParams& params, const float* scores, int lane) {
  const int size = params.num_experts / params.gate.num_groups;
  unsigned key = kNever;
  if (lane < params.gate.num_groups) {
    float first = -FLT_MAX;
    float second = 0;
    int at = lane % size;  // lanes start at different banks
    for (int i = 0; i < size; ++i) {
      const float score = scores[lane * size + at];
      second = fmaxf(second, fminf(first, score));  // sigmoids, which are never below 0
      first = fmaxf(first, score);
      if (++at == size) at = 0;
    }
    key = key_of(params.gate.score == GateScore::kSigmoid ? first + second : first);
  }
  unsigned chosen = 0;
  for (int i = 0; i < params.gate.topk_groups; ++i) {
    const Best best = best_of_warp({key, lane});
    if (best.id < 0) break;
    chosen |= 1U << best.id;
    if (best.id == lane) key = kNever;
  }
  return chosen;
}

/// Lane l holds experts l, l + 32, ...; `values` of them.
template <int values>
__global__ void __launch_bounds__(kWarpsPerBlock * 32)
    topk_kernel(const __grid_constant__ TopkParams params) {
  extern __shared__ float all_scores[];  // [warps][experts]
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = static_cast<int>(blockIdx.x) * kWarpsPerBlock + warp;
  const int rank = row / params.rows.rows_per_rank;
  if (rank >= params.rows.num_ranks) return;
  const int experts = params.num_experts;
  const int topk = params.topk;
  const auto out = static_cast<std::size_t>(row) * static_cast<unsigned>(topk);
  const bool padding = row - rank * params.rows.rows_per_rank >= params.rows.num_tokens[rank];
  if (padding) {
    if (lane < topk) {
      params.ids[out + static_cast<unsigned>(lane)] = -1;
      params.weights[out + static_cast<unsigned>(lane)] = 0;
    }
    return;
  }

  const bool is_sigmoid = params.gate.score == GateScore::kSigmoid;
  const float* logits =
      params.logits + static_cast<std::size_t>(row) * static_cast<unsigned>(experts);
  float* scores = all_scores + warp * experts;
  unsigned keys[values];
  float largest = -FLT_MAX;
#pragma unroll
  for (int v = 0; v < values; ++v) {
    const int id = v * 32 + lane;
    keys[v] = kNever;
    if (id >= experts) continue;
    const float logit = finite(logits[id]);
    scores[id] = is_sigmoid ? sigmoid(logit) : logit;
    keys[v] = key_of(logit);  // scores saturate, logits do not
    largest = fmaxf(largest, logit);
  }
  __syncwarp();
  if (params.gate.topk_groups < params.gate.num_groups) {
    const unsigned groups = best_groups(params, scores, lane);
    const int size = experts / params.gate.num_groups;
#pragma unroll
    for (int v = 0; v < values; ++v) {
      if ((groups >> ((v * 32 + lane) / size) & 1U) == 0) keys[v] = kNever;
    }
  }

  int chosen = -1;  // by this lane's k
  for (int k = 0; k < topk; ++k) {
    Best mine{kNever, 0};
#pragma unroll
    for (int v = 0; v < values; ++v) {
      if (keys[v] > mine.key) mine = {keys[v], v * 32 + lane};
    }
    const int id = best_of_warp(mine).id;
#pragma unroll
    for (int v = 0; v < values; ++v) {
      if (v * 32 + lane == id) keys[v] = kNever;
    }
    if (k == lane) chosen = id;
  }
  if (params.forced_ids != nullptr && lane < topk) {
    const std::int32_t forced = params.forced_ids[out + static_cast<unsigned>(lane)];
    chosen = forced >= 0 && forced < experts ? forced : -1;
  }

  float weight = chosen >= 0 ? scores[chosen] : 0;
  if (!is_sigmoid) {  // the softmax's denominator cancels when the weights are normalised
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, offset));
    }
    weight = chosen >= 0 ? expf(weight - largest) : 0;
  }
  float sum = weight;
  if (!params.gate.normalise_weights) {
    sum = is_sigmoid ? 1 : 0;
    for (int id = lane; !is_sigmoid && id < experts; id += 32) sum += expf(scores[id] - largest);
  }
  if (params.gate.normalise_weights || !is_sigmoid) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, offset);
    }
  }
  const auto scale = static_cast<float>(params.gate.weight_scale);
  if (lane < topk) {
    params.ids[out + static_cast<unsigned>(lane)] = chosen;
    params.weights[out + static_cast<unsigned>(lane)] = sum > 0 ? weight / sum * scale : 0;
  }
}

template <int values>
void launch(const TopkParams& params, cudaStream_t stream) {
  const int blocks = (params.rows.size() + kWarpsPerBlock - 1) / kWarpsPerBlock;
  const std::size_t bytes =
      sizeof(float) * kWarpsPerBlock * static_cast<unsigned>(params.num_experts);
  topk_kernel<values>
      <<<static_cast<unsigned>(blocks), kWarpsPerBlock * 32, bytes, stream>>>(params);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void launch_topk(const TopkParams& params, cudaStream_t stream) {
  if (params.rows.size() == 0) return;
  if (params.num_experts <= 128) return launch<4>(params, stream);
  if (params.num_experts <= 256) return launch<8>(params, stream);
  if (params.num_experts <= 512) return launch<16>(params, stream);
  launch<32>(params, stream);
}

}  // namespace metro::ep::cuda
