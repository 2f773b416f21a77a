// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

/// Kernels around the collectives of a layer. All pointers are on the device, rows of values are
/// 16-byte aligned; the launchers throw Error{kDevice}.
namespace metro::ep::cuda {

/// Where a slot of the layer is: its GPU, and its number among that GPU's slots.
struct SlotPlace {
  std::int16_t gpu;
  std::int16_t local;
};

/// out[i] = the number of slot ids[i] among the slots of `gpu`; -1 if it is another GPU's.
void launch_localise(const std::int32_t* ids, int num_ids, const SlotPlace* places, int gpu,
                     std::int32_t* out, cudaStream_t stream);

/// Packs each token once for every GPU that serves it, in the order of the tokens.
struct PackParams {
  const __nv_bfloat16* x;           ///< [max_tokens][hidden]
  const std::int32_t* num_tokens;   ///< [1]
  const std::int32_t* replica_ids;  ///< [max_tokens][topk]
  const float* weights;             ///< [max_tokens][topk]
  const SlotPlace* places;          ///< [slots of the layer]
  int num_gpus;
  int max_tokens;
  int topk;
  int hidden;

  std::int32_t* source_row;  ///< [gpus][max_tokens] token of each packed row, -1 past the end
  std::int32_t* packed_row;  ///< [gpus][max_tokens] its inverse; -1: not sent there
  __nv_bfloat16* packed_x;   ///< [gpus][max_tokens][hidden]
  std::int32_t* packed_ids;  ///< [gpus][max_tokens][topk] local slots, -1: not that GPU's
  float* packed_weights;     ///< [gpus][max_tokens][topk]
};
void launch_pack(const PackParams& params, cudaStream_t stream);

/// out[t] = extra[t] + the sum over GPUs, in their order, of the partial outputs of token t; zeros
/// for rows without a token. Summed in float32.
struct SumParams {
  const __nv_bfloat16* partials;    ///< [parts][max_tokens][hidden]
  const std::int32_t* partial_row;  ///< [parts][max_tokens] -1: none; null: row t
  const __nv_bfloat16* extra;       ///< [max_tokens][hidden]; null: none
  const std::int32_t* num_tokens;   ///< [1]
  int parts;
  int max_tokens;
  int hidden;
  __nv_bfloat16* out;  ///< [max_tokens][hidden]
};
void launch_sum(const SumParams& params, cudaStream_t stream);

/// out[row][i] = silu(in[row][i]) * in[row][width + i].
void launch_silu_product(const __nv_bfloat16* in, int rows, int width, __nv_bfloat16* out,
                         cudaStream_t stream);

}  // namespace metro::ep::cuda
