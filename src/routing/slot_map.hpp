// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "metro/router.hpp"

namespace metro::routing {

/// Index of an id in a table of `num_experts` + 1 entries: masked and foreign ids share the last.
[[nodiscard]] inline std::size_t table_index(std::int32_t id, std::uint32_t num_experts) noexcept {
  return std::min(static_cast<std::uint32_t>(id), num_experts);
}

/// One slot per expert, and -1 for ids that are no expert: what a single-replica policy decides.
class SlotMap {
 public:
  explicit SlotMap(std::span<const std::int32_t> slots) : slots_(slots.begin(), slots.end()) {
    slots_.push_back(kMasked);
  }

  [[nodiscard]] std::span<std::int32_t> slots() noexcept {
    return std::span(slots_).first(slots_.size() - 1);
  }

  /// Writes the slot of each id; in place is fine.
  void apply(TopkView topk, std::span<std::int32_t> replica_ids) const noexcept {
    const auto num_experts = static_cast<std::uint32_t>(slots_.size() - 1);
    const std::int32_t* slots = slots_.data();
    // Four at a time: this loop is most of a call, and the ids of a group are independent.
    std::size_t i = 0;
    for (; i + 4 <= topk.ids.size(); i += 4) {
      const std::int32_t a = slots[table_index(topk.ids[i], num_experts)];
      const std::int32_t b = slots[table_index(topk.ids[i + 1], num_experts)];
      const std::int32_t c = slots[table_index(topk.ids[i + 2], num_experts)];
      const std::int32_t d = slots[table_index(topk.ids[i + 3], num_experts)];
      replica_ids[i] = a;
      replica_ids[i + 1] = b;
      replica_ids[i + 2] = c;
      replica_ids[i + 3] = d;
    }
    for (; i < topk.ids.size(); ++i) {
      replica_ids[i] = slots[table_index(topk.ids[i], num_experts)];
    }
  }

 private:
  std::vector<std::int32_t> slots_;  // [experts + 1]
};

/// A policy that never looks at the batch: one slot per expert, always.
class FixedPolicy final : public RoutingPolicy {
 public:
  explicit FixedPolicy(std::span<const std::int32_t> slots) : map_(slots) {}

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    map_.apply(topk, replica_ids);
  }

 private:
  SlotMap map_;
};

/// Which experts a batch activates, one byte each.
class ActiveFlags {
 public:
  explicit ActiveFlags(int num_experts) : flags_(static_cast<std::size_t>(num_experts) + 1) {}

  /// Sets the flag of every expert that `ids` name, clears the others.
  std::span<const std::uint8_t> mark(std::span<const std::int32_t> ids) noexcept {
    std::ranges::fill(flags_, std::uint8_t{0});
    const auto num_experts = static_cast<std::uint32_t>(flags_.size() - 1);
    std::uint8_t* flags = flags_.data();
    std::size_t i = 0;
    for (; i + 4 <= ids.size(); i += 4) {
      flags[table_index(ids[i], num_experts)] = 1;
      flags[table_index(ids[i + 1], num_experts)] = 1;
      flags[table_index(ids[i + 2], num_experts)] = 1;
      flags[table_index(ids[i + 3], num_experts)] = 1;
    }
    for (; i < ids.size(); ++i) flags[table_index(ids[i], num_experts)] = 1;
    return std::span(flags_).first(flags_.size() - 1);
  }

 private:
  std::vector<std::uint8_t> flags_;  // [experts + 1]; the last takes masked ids
};

}  // namespace metro::routing
