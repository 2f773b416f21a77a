// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "metro/placement.hpp"

namespace metro {

/// The slot that serves each expert under policy `home`: `placement.home` where it is given, else
/// exact homes: as few experts on the fullest GPU as the replicas allow, by the fixed rule of
/// docs/formats.md, a pure function of the placement. About 20 us for 256 experts.
///
/// Throws as LayerPlacement::validate.
std::vector<std::int32_t> find_homes(const LayerPlacement& placement);

/// Home slots for this load: as few experts on the fullest GPU as the replicas allow, and within
/// that, by a local search that starts from `find_homes`' rule, little load on the fullest GPU (the
/// sum over the experts at home there). Ignores `placement.home`. What `place` writes for every
/// algorithm that has no homes of its own. Deterministic; well under 1 ms for 256 experts.
///
/// Throws as LayerPlacement::validate, and Error{kInput} unless there is a load for every expert.
std::vector<std::int32_t> solve_homes(const LayerPlacement& placement,
                                      std::span<const double> load);

}  // namespace metro
