// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "ep/cuda/expert_geometry.hpp"
#include "ep/cuda/expert_plan.hpp"
#include "ep/cuda/expert_stage.hpp"

/// The kernels behind ExpertStage and their table; all launchers throw Error{kDevice}.
namespace metro::ep::cuda {

/// Rows of e4m3 values, 128 of which share a scale: value = scale * e4m3.
struct QuantizedRows {
  std::uint8_t* values = nullptr;  ///< [rows][pitch], 16-byte aligned
  float* scales = nullptr;         ///< [stretches of 128][scale_pitch]: of all rows side by side
  int pitch = 0;
  int scale_pitch = 0;
};

struct PermuteParams {
  const std::int32_t* replica_ids;
  int num_assignments;
  int first_slot;
  int num_slots;
  int max_groups;  ///< that the plan has room for
  int blocks;      ///< of the expert kernel
  ExpertGeometry geometry;
  ExpertPlan plan;
  const __nv_bfloat16* tokens;  ///< [num_tokens][hidden]
  int num_tokens;
  int hidden;
  QuantizedRows quantized;  ///< of all tokens; without values: not wanted
};
/// Lets the kernel take the shared memory of 1,024 slots, on the current device.
void prepare_permute();
void launch_permute(const PermuteParams& params, cudaStream_t stream);

struct ExpertParams {
  ExpertGeometry geometry;
  SlotWeights weights;
  ExpertPlan plan;
  int topk;
  int hidden;
  int activation_stride;
  const __nv_bfloat16* tokens;     ///< [tokens][hidden]
  __nv_bfloat16* activations;      ///< [rows][activation_stride]
  __nv_bfloat16* outputs;          ///< [rows][hidden]
  QuantizedRows quantized_tokens;  ///< in the place of the two, for a kernel that quantises
  QuantizedRows quantized_activations;
};

/// One way to multiply a rank's experts.
struct ExpertKernel {
  const char* name;
  /// Whether it can, on a device of this compute capability (90: Hopper).
  bool (*serves)(const ExpertStageSizes& sizes, int capability);
  /// Whether it is the choice for these sizes if no kernel is named: shapes and batch are known
  /// when a graph is captured.
  bool (*suits)(const ExpertStageSizes& sizes);
  /// Whether it takes tokens and activations as QuantizedRows.
  bool (*quantizes)(DataType weights);
  bool needs_maps;  ///< SlotWeights::maps
  ExpertGeometry (*cut)(const ExpertStageSizes& sizes);
  /// On the current device. Throws Error{kUsage} for more groups than there is room for.
  ExpertLaunch (*prepare)(const ExpertStageSizes& sizes, int max_groups);
  void (*launch)(const ExpertParams& params, const ExpertLaunch& launch, cudaStream_t stream);
};
extern const ExpertKernel kPortableExpertKernel;
extern const ExpertKernel kHopperExpertKernel;

/// The first of the table that serves and suits `sizes` on the current device, or the one that they
/// name. Throws Error{kUsage} for a name that there is not, or that does not serve.
const ExpertKernel& choose_expert_kernel(const ExpertStageSizes& sizes);

/// A block for every multiprocessor, as many as are resident at once, with `shared_bytes` and 8
/// bytes more for each group. Throws Error{kUsage} for more groups than `most_shared` bytes hold.
ExpertLaunch resident_blocks(const void* kernel, int threads, int shared_bytes, int max_groups,
                             int group_tokens, int most_shared);
/// Bytes of shared memory that a block may take on the current device, at most `limit` if not 0.
int shared_memory_limit(int limit);
/// Cooperative, so that all blocks are resident: tiles wait for other blocks' tiles.
void launch_resident(void (*kernel)(ExpertParams), int threads, const ExpertParams& params,
                     const ExpertLaunch& launch, cudaStream_t stream);

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
