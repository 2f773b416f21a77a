// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ep/cuda/expert_plan.hpp"
#include "ep/cuda/expert_stage.hpp"

/// The launchers behind ExpertStage; all throw Error{kDevice} when a launch fails.
namespace metro::ep::cuda {

/// One of the two products of an expert, cut into tiles of output features, by class of tokens.
struct ExpertProduct {
  int features;                   ///< outputs: intermediate, then hidden
  int depth;                      ///< values to a dot product: hidden, then intermediate
  int warps_deep[kTokenClasses];  ///< warps that share the depth of a tile: 1, 2, 4 or 8
  int tiles[kTokenClasses];       ///< of features
};

struct PermuteParams {
  const std::int32_t* replica_ids;
  int num_assignments;
  int first_slot;
  int num_slots;
  int max_groups;  ///< that the plan has room for
  int blocks;      ///< of the expert kernel
  ExpertProduct up;
  ExpertProduct down;
  ExpertPlan plan;
};
/// Lets the kernel take the shared memory of 1,024 slots, on the current device.
void prepare_permute();
void launch_permute(const PermuteParams& params, cudaStream_t stream);

struct ExpertParams {
  ExpertProduct up;  ///< gate and up together
  ExpertProduct down;
  SlotWeights weights;
  ExpertPlan plan;
  int extra_turns;  ///< of tiles of the second product, for blocks with one less of the first
  int topk;
  int hidden;
  int activation_stride;
  const __nv_bfloat16* tokens;  ///< [tokens][hidden]
  __nv_bfloat16* activations;   ///< [rows][activation_stride]
  __nv_bfloat16* outputs;       ///< [rows][hidden]
};
/// The tiles of both products; the rest is left empty.
ExpertParams cut_tiles(const ExpertStageSizes& sizes);

/// Throws Error{kUsage} for more groups than there is room for. `shared_limit`: bytes of shared
/// memory that a block may take, 0 for all of the device's.
ExpertLaunch prepare_experts(DataType weights, int max_groups, int shared_limit);
void launch_experts(const ExpertParams& params, const ExpertLaunch& launch, cudaStream_t stream);

struct CombineParams {
  const std::int32_t* assignment_to_row;
  const __nv_bfloat16* outputs;
  const float* topk_weights;
  __nv_bfloat16* out;
  int num_tokens;
  int topk;
  int hidden;
};
void launch_combine(const CombineParams& params, cudaStream_t stream);

}  // namespace metro::ep::cuda
