// SPDX-License-Identifier: Apache-2.0
#include "placement/algorithms.hpp"

namespace metro {

LayerPlacement place_contiguous(std::span<const double> load, const PlacementRequest& request) {
  check_request(load, request);
  const int num_experts = static_cast<int>(load.size());
  LayerPlacement placement{num_experts, request.num_gpus, {}, {}, {}, {}};
  placement.replica_to_expert.reserve(static_cast<std::size_t>(request.num_replicas));
  for (int slot = 0; slot < request.num_replicas; ++slot) {
    placement.replica_to_expert.push_back(slot % num_experts);
  }
  placement.replica_to_gpu = contiguous_gpus(request.num_replicas, request.num_gpus);
  return placement;
}

}  // namespace metro
