// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "metro/model.hpp"

namespace metro::ep::cuda {

inline constexpr int kMaxGateExperts = 1024;
inline constexpr int kMaxGateTopk = 32;
inline constexpr int kMaxGateGroups = 32;

/// The rows of a batch that hold a token: each rank's stretch of `rows_per_rank` rows begins with
/// its `num_tokens[rank]` tokens, the rest is padding.
struct PaddedRows {
  const std::int32_t* num_tokens = nullptr;  ///< [ranks], on the device
  int num_ranks = 0;
  int rows_per_rank = 0;

  [[nodiscard]] int size() const noexcept { return num_ranks * rows_per_rank; }
};

/// Chooses experts from the gate's logits; device pointers.
struct TopkParams {
  GateConfig gate;
  int num_experts = 0;  ///< up to kMaxGateExperts
  int topk = 0;         ///< up to kMaxGateTopk
  PaddedRows rows;
  const float* logits = nullptr;             ///< [rows][experts]
  const std::int32_t* forced_ids = nullptr;  ///< [rows][topk] taken instead of the choice; or null
  std::int32_t* ids = nullptr;               ///< [rows][topk] -1 for padding
  float* weights = nullptr;                  ///< [rows][topk] 0 for padding
};

/// One warp a row; the choice is ep::TopkChooser's: among equal logits the lowest id wins, among
/// equal groups the lowest group, and NaN is the lowest logit. With `forced_ids` the choice is
/// still made, then overruled: a recorded routing replayed at the cost of a live one. Throws
/// Error{kDevice} when the launch fails.
void launch_topk(const TopkParams& params, cudaStream_t stream);

}  // namespace metro::ep::cuda
