// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "metro/ep/layer_config.hpp"
#include "metro/ep/transport.hpp"
#include "metro/placement.hpp"
#include "metro/router.hpp"
#include "metro/topk.hpp"

namespace metro::ep {

/// Chooses the replicas of a rank's own tokens as if the global batch were routed in one place.
///
/// The global batch is the ranks' tokens in rank order. Each rank's choice equals the rows of
/// Router::route on that batch, so every policy means the same under both dispatches. (`static` and
/// `round-robin` take a row's source rank from its place, floor(row * G / T), as everywhere.)
class ReplicaChooser {
 public:
  /// `placement` is over the ranks, or over groups of `shards` of them: each rank tells of its own
  /// tokens, and the choice is one for the group. Throws as Router.
  ReplicaChooser(const LayerPlacement& placement, std::string_view policy,
                 const RouteOptions& options, int shards = 1);

  /// What the ranks tell each other of a batch, once each knows its own tokens' experts. What the
  /// policy's row says, but all ids where it counts a source rank's tokens and the ranks hold
  /// unequal shares, or a group is the source: floor(row * G / T) then puts tokens of several ranks
  /// into one source.
  [[nodiscard]] PolicyNeeds needs(std::span<const int> tokens_per_rank) const noexcept;

  /// The whole batch in one place: what all-gather dispatch has.
  void route(TopkView global, std::span<std::int32_t> replica_ids) noexcept {
    router_.route(global, replica_ids);
  }

  /// Step 1 of all-to-all dispatch: tells the other ranks what `needs` says.
  void share(TopkView own, std::span<const int> tokens_per_rank, Transport& transport);

  /// Step 2: routes the rank's own tokens; no communication.
  void route_own(TopkView own, std::span<std::int32_t> replica_ids) noexcept;

 private:
  void share_activation(TopkView own, Transport& transport);
  void share_ids(TopkView own, std::span<const int> tokens_per_rank, Transport& transport);

  Router router_;
  const PolicyInfo& policy_;
  int num_experts_;
  bool is_grouped_;
  std::size_t first_id_ = 0;               // of the own tokens, in global_
  TopkBatch global_;                       // masked where ids of others are not needed
  std::vector<std::uint8_t> activation_;   // [ranks][ceil(experts / 8)]
  std::vector<std::int32_t> active_;       // experts, ascending
  std::vector<std::int32_t> replica_ids_;  // of global_ or active_
  std::vector<std::int32_t> slots_;        // [experts]
};

}  // namespace metro::ep
