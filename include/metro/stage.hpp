// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace metro {

/// Parts of a step of serving, in the order they run under all-gather dispatch: what the cost model
/// predicts, the layer measures, and results name.
enum class Stage : std::uint8_t {
  kAttention,     ///< projections and attention proper
  kAttentionSum,  ///< all-reduce of tensor-parallel attention
  kDense,         ///< dense layers
  kShared,        ///< shared experts
  kGate,          ///< the gate and its top-k
  kDispatch,      ///< tokens to the experts' GPUs
  kExchange,      ///< what the policy must know of other ranks
  kRoute,         ///< the policy
  kPermute,       ///< sorting tokens by expert, and summing their results
  kExperts,       ///< routed experts
  kCombine,       ///< results back to the tokens' GPUs
  kHead,          ///< logits and sampling
  kOverhead,      ///< norms, launches and the engine between steps
  kNumStages
};

inline constexpr std::size_t kNumStages = static_cast<std::size_t>(Stage::kNumStages);

/// "attention", "attention_sum", ...
std::string_view stage_name(Stage stage) noexcept;

}  // namespace metro
