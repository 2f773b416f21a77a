// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/router.hpp"
#include "routing/slot_map.hpp"

namespace metro::bench {

/// The rival of `optimal`: a textbook Dinic max-flow on the same reduced graph.
///
/// Experts without a choice are charged to their GPU; the others are nodes between a source and
/// the GPUs, whose arcs to the sink hold what is left of the bound. While some expert finds no
/// GPU, the bound and every sink arc grow by one and the flow goes on from where it stands. Memory
/// is allocated once, by the constructor, so that a timing compares algorithms.
class DinicRouter final : public RoutingPolicy {
 public:
  explicit DinicRouter(const LayerPlacement& placement);

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override;

  /// The optimum of the last call.
  [[nodiscard]] int max_activated() const noexcept { return bound_; }

 private:
  struct Arc {
    std::int32_t to;
    std::int32_t next;  // arc of the same node, -1 at the end
    std::int32_t capacity;
    std::int32_t slot;
  };

  void build(std::span<const std::uint8_t> active) noexcept;
  void add_arc(int from, int to, int capacity, std::int32_t slot) noexcept;
  bool find_levels() noexcept;
  int augment(int node, int limit) noexcept;

  ReplicaIndex index_;
  routing::ActiveFlags flags_;
  routing::SlotMap map_;
  int sink_ = 0;
  int num_free_ = 0;
  int bound_ = 0;
  std::vector<std::int32_t> free_experts_;  // node 1 + i is free_experts_[i]
  std::vector<std::int32_t> load_;          // [gpus] experts without a choice
  std::vector<Arc> arcs_;                   // an arc and its reverse are 2i and 2i + 1
  std::vector<std::int32_t> sink_arcs_;     // [gpus]
  std::vector<std::int32_t> first_arc_;     // [nodes]
  std::vector<std::int32_t> next_arc_;      // [nodes] where the depth-first search goes on
  std::vector<std::int32_t> level_;         // [nodes]
  std::vector<std::int32_t> queue_;
};

}  // namespace metro::bench
