// SPDX-License-Identifier: Apache-2.0
#include "core/replica_index.hpp"

#include <algorithm>

#include "core/homes.hpp"

namespace metro {

ReplicaIndex::ReplicaIndex(const LayerPlacement& placement)
    : num_experts_(placement.num_experts), num_gpus_(placement.num_gpus) {
  placement.validate();
  const auto experts = static_cast<std::size_t>(num_experts_);
  replica_to_gpu_ = placement.replica_to_gpu;

  replica_begin_.assign(experts + 1, 0);
  for (const std::int32_t expert : placement.replica_to_expert) {
    ++replica_begin_[static_cast<std::size_t>(expert) + 1];
  }
  for (std::size_t e = 0; e < experts; ++e) replica_begin_[e + 1] += replica_begin_[e];
  replicas_.resize(placement.replica_to_expert.size());
  std::vector<std::int32_t> next(replica_begin_.begin(), replica_begin_.end() - 1);
  for (std::size_t slot = 0; slot < replicas_.size(); ++slot) {
    const auto expert = static_cast<std::size_t>(placement.replica_to_expert[slot]);
    replicas_[static_cast<std::size_t>(next[expert]++)] = static_cast<std::int32_t>(slot);
  }

  candidate_begin_.assign(1, 0);
  std::vector<std::int32_t> last_expert_on(static_cast<std::size_t>(num_gpus_), -1);
  for (int e = 0; e < num_experts_; ++e) {
    for (const std::int32_t slot : replicas(e)) {
      const std::int32_t gpu = replica_to_gpu_[static_cast<std::size_t>(slot)];
      auto& last = last_expert_on[static_cast<std::size_t>(gpu)];
      if (last == e) continue;
      last = e;
      candidates_.push_back({slot, gpu});
    }
    candidate_begin_.push_back(static_cast<std::int32_t>(candidates_.size()));
  }

  home_ = placement.home.empty() ? exact_homes(*this) : placement.home;
}

}  // namespace metro
