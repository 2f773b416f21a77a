// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "metro/stage.hpp"

namespace metro::ep {

using metro::kNumStages;
using metro::Stage;

/// The stages of one layer, in the order of all-to-all dispatch (all-gather dispatches first).
inline constexpr std::array kLayerStages = {Stage::kGate,     Stage::kExchange, Stage::kRoute,
                                            Stage::kDispatch, Stage::kPermute,  Stage::kExperts,
                                            Stage::kShared,   Stage::kCombine};

/// Microseconds by Stage: times[static_cast<std::size_t>(Stage::kExperts)]. Those that are no
/// stages of a layer are 0.
using StageTimes = std::array<double, kNumStages>;

}  // namespace metro::ep
