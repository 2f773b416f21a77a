// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "cuda/device_memory.hpp"
#include "ep/cuda/expert_plan.hpp"
#include "metro/model.hpp"

namespace metro::ep::cuda {

struct WeightMaps;

struct ExpertStageSizes {
  int hidden = 0;        ///< a multiple of 16
  int intermediate = 0;  ///< of one expert, or of its shard; a multiple of 16
  int topk = 0;
  int max_tokens = 0;                  ///< rows of the largest batch
  int num_slots = 0;                   ///< local, up to 1,024
  DataType weights = DataType::kBf16;  ///< or kFp8
  int shared_limit = 0;          ///< bytes of shared memory that a block may take; 0: all there are
  std::string_view kernel = {};  ///< "hopper" or "portable"; empty: the best that serves here
};

/// Where the local slots' weights lie: device arrays [num_slots] of device pointers, which may be
/// swapped between calls. gate_up is [2 * intermediate][hidden] (gate first), down is
/// [hidden][intermediate], row-major, 16-byte aligned. The scales are for fp8 (e4m3) alone: one
/// float for each block of 128 x 128 values, row-major. The maps are for the Hopper kernel alone.
struct SlotWeights {
  const void* const* gate_up = nullptr;
  const void* const* down = nullptr;
  const float* const* gate_up_scales = nullptr;
  const float* const* down_scales = nullptr;
  const WeightMaps* maps = nullptr;

  /// Those of the slots from `first` on.
  [[nodiscard]] SlotWeights from(int first) const noexcept;
};

struct ExpertKernel;
struct ExpertParams;
struct ExpertLaunch {
  int variant = 0;  ///< of the kernel, as it likes
  int blocks = 0;   ///< all that the device holds at once
  int shared_bytes = 0;
};

/// The experts of one rank: lists the tokens of each local slot, multiplies, and adds up.
///
///     stage.permute(replica_ids, tokens, num_tokens, first_slot, stream);
///     stage.run(tokens, weights, stream);
///     stage.combine(topk_weights, num_tokens, out, stream);
///
/// Reads the weights of activated slots only. Enqueues one kernel a call, never synchronises or
/// allocates, and launch shapes depend on the sizes and `num_tokens` alone, so that a CUDA graph
/// holds for any routing. Deterministic. One stream at a time; belongs to the current device.
class ExpertStage {
 public:
  /// Throws Error{kUsage} for sizes out of range, {kDevice} with CUDA's words.
  explicit ExpertStage(const ExpertStageSizes& sizes);

  /// `replica_ids` [num_tokens][topk] are the layer's slots; those outside
  /// [first_slot, first_slot + num_slots) are other ranks'. `tokens` [num_tokens][hidden] are those
  /// that `run` gets: a kernel that takes them in fp8 has them quantised here.
  void permute(const std::int32_t* replica_ids, const __nv_bfloat16* tokens, int num_tokens,
               int first_slot, cudaStream_t stream);

  /// SwiGLU of every listed token: down * (silu(gate * x) * (up * x)). Sums in float32, rounds the
  /// activation and the output to bf16. An fp8 block whose scale is 0 counts for nothing. Where
  /// `quantizes()`, tokens and activations are rounded to e4m3, 128 values of a row to a scale. May
  /// be called again after the same `permute`. Throws Error{kUsage} if the kernel needs maps that
  /// `weights` has not.
  void run(const __nv_bfloat16* tokens, const SlotWeights& weights, cudaStream_t stream);

  /// out [num_tokens][hidden] = the token's outputs here times their weights, added in the order of
  /// k in float32; 0 for a token that no local slot serves. Writes every row.
  void combine(const float* topk_weights, int num_tokens, __nv_bfloat16* out, cudaStream_t stream);

  [[nodiscard]] const ExpertPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] const char* kernel_name() const noexcept;
  [[nodiscard]] bool quantizes() const noexcept;

 private:
  [[nodiscard]] ExpertParams params() const;

  ExpertStageSizes sizes_;
  const ExpertKernel* kernel_ = nullptr;
  int activation_stride_ = 0;
  int max_groups_ = 0;
  ExpertLaunch launch_;
  metro::cuda::DeviceArray<std::int32_t> integers_;
  metro::cuda::DeviceArray<ExpertGroup> groups_;
  metro::cuda::DeviceArray<__nv_bfloat16> activations_;           // [rows][activation_stride_]
  metro::cuda::DeviceArray<__nv_bfloat16> outputs_;               // [rows][hidden]
  metro::cuda::DeviceArray<std::uint8_t> quantized_tokens_;       // [max_tokens][hidden]
  metro::cuda::DeviceArray<std::uint8_t> quantized_activations_;  // [rows][activation_stride_]
  metro::cuda::DeviceArray<float> scales_;                        // of both
  ExpertPlan plan_{};
};

}  // namespace metro::ep::cuda
