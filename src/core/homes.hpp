// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/replica_index.hpp"

namespace metro {

/// Home slots of a layer that names none: the experts on the fullest GPU are as few as the replicas
/// allow. The rule, ties included, is docs/formats.md's; python/metro_moe/homes.py is its plain
/// reading. Uses the index's candidates alone. About 5 us for 256 experts.
///
/// Start: experts with the fewest GPUs first, then by id, each to the GPU with the fewest homes,
/// ties to the lowest. Then `level_homes`.
std::vector<std::int32_t> exact_homes(const ReplicaIndex& index);

/// Moves homes off the fullest GPUs until one of them cannot be relieved, which proves that no
/// choice has fewer on the fullest: from that GPU no chain of moves leads to one with room, so the
/// GPUs that it reaches can only serve each other's experts, and these are too many for less.
/// Where nothing can be gained the homes stay; each is given as its GPU's lowest slot.
std::vector<std::int32_t> level_homes(const ReplicaIndex& index,
                                      std::span<const std::int32_t> home);

}  // namespace metro
