// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/router.hpp"
#include "routing/slot_map.hpp"

namespace metro::routing {

/// Visits experts in a fixed order; each active one takes the candidate GPU with the fewest
/// activated experts so far, the lowest GPU if several. `metro` and `metro-paper` differ in the
/// order alone.
class GreedyPolicy final : public RoutingPolicy {
 public:
  GreedyPolicy(const ReplicaIndex& index, const std::vector<std::int32_t>& order);

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override;

 private:
  struct Visit {
    std::int32_t expert;
    std::int32_t begin;  // into candidates_
    std::int32_t end;
  };
  std::vector<Visit> visits_;
  std::vector<Candidate> candidates_;  // of each visit by ascending GPU
  std::vector<std::int32_t> load_;     // [gpus]
  ActiveFlags flags_;
  SlotMap map_;
};

}  // namespace metro::routing
