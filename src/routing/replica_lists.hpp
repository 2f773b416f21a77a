// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/replica_index.hpp"
#include "routing/slot_map.hpp"

namespace metro::routing {

/// All replicas of each expert, copies on one GPU included, for policies that spread tokens.
/// Ids that are no expert have a list of one slot, -1, so that callers need no branch.
class ReplicaLists {
 public:
  struct List {
    std::uint32_t begin;
    std::uint32_t count;  // >= 1
  };

  explicit ReplicaLists(const LayerPlacement& placement) {
    const ReplicaIndex index(placement);
    for (int e = 0; e < index.num_experts(); ++e) {
      const auto replicas = index.replicas(e);
      lists_.push_back(
          {static_cast<std::uint32_t>(slots_.size()), static_cast<std::uint32_t>(replicas.size())});
      slots_.insert(slots_.end(), replicas.begin(), replicas.end());
    }
    lists_.push_back({static_cast<std::uint32_t>(slots_.size()), 1});
    slots_.push_back(kMasked);
  }

  [[nodiscard]] std::uint32_t num_experts() const noexcept {
    return static_cast<std::uint32_t>(lists_.size() - 1);
  }
  [[nodiscard]] List of(std::int32_t id) const noexcept {
    return lists_[table_index(id, num_experts())];
  }
  [[nodiscard]] std::int32_t slot(List list, std::uint32_t position) const noexcept {
    return slots_[list.begin + position];
  }

 private:
  std::vector<List> lists_;  // [experts + 1]
  std::vector<std::int32_t> slots_;
};

}  // namespace metro::routing
