// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metro/policy_names.hpp"
#include "metro/trace.hpp"

namespace metro {

/// Which batches, placement and policy a map is of.
struct ActivatedMapSpec {
  std::string algorithm{kEplbAlgorithm};
  int gpus = 1;
  double replication = 1;  ///< slots per expert, >= 1
  int tokens = 1;          ///< of the global batch
  std::string policy{kDefaultPolicy};
  int batches = 32;
  std::uint64_t seed = 0;
  int ep = 0;  ///< as CompareSpec's; 0: `gpus`
};

/// Activated replicas of every GPU in every layer, means over batches: where the work lies, layer
/// by layer, for a heat map. Where experts are sharded, of every group, in experts' worth of bytes
/// on one of its GPUs.
struct ActivatedMap {
  ActivatedMapSpec spec;
  std::vector<std::vector<double>> activated;  ///< [layers][GPUs or groups]
};

/// Replays decode batches as `compare` does: the same placements and, with the same seed, the same
/// batches. Throws as `compare`.
ActivatedMap activated_map(const RoutingTrace& trace, const ActivatedMapSpec& spec);

}  // namespace metro
