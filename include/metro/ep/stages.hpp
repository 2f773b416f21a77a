// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace metro::ep {

/// Where a layer's time goes, in the order of all-to-all dispatch (all-gather dispatches first).
enum class Stage : std::uint8_t {
  kGate,      ///< gate and top-k
  kExchange,  ///< what ranks tell each other for routing
  kRoute,
  kDispatch,  ///< tokens to the GPUs of their experts
  kPermute,   ///< tokens by slot
  kExperts,
  kShared,  ///< the shared expert
  kCombine
};

inline constexpr std::array<std::string_view, 8> kStageNames = {
    "gate_topk", "exchange", "route", "dispatch", "permute", "experts", "shared", "combine"};
inline constexpr std::size_t kNumStages = kStageNames.size();

/// Microseconds by Stage: times[static_cast<std::size_t>(Stage::kExperts)].
using StageTimes = std::array<double, kNumStages>;

}  // namespace metro::ep
