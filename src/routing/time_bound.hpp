// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/expert_cost.hpp"

namespace metro::routing {

/// Writes how many of `ids` name each expert; `tokens` has an entry more, for ids that name none.
void count_tokens(std::span<const std::int32_t> ids, std::span<std::int64_t> tokens) noexcept;

/// What the slowest GPU takes at least above the base: the largest of some sums that no routing and
/// no split of tokens can get below.
///
/// ExpertCost::least of an expert's tokens is spent on its GPUs, however they are split. So of any
/// set of GPUs the slowest takes at least the mean of the experts that have no replica outside. The
/// sets are each GPU alone, and the GPUs with the most to do, for each number of them. Besides, the
/// GPU with the most activated experts takes phi(1) for each, and some replica of an expert takes
/// an equal share or more, on top of what has no choice there.
class TimeBound {
 public:
  explicit TimeBound(const ReplicaIndex& index);

  /// `tokens` of each expert, and the `optimum` of activated experts on the busiest GPU. True up to
  /// rounding: shrink it by `slack` where that counts. Never allocates.
  double of(std::span<const std::int64_t> tokens, int optimum, const ExpertCost& cost) noexcept;

  /// More than the share that rounding can add to a bound or take off a sum of times.
  [[nodiscard]] double slack() const noexcept {
    return 0x1p-52 * static_cast<double>(gpus_.size() + 4096);
  }

 private:
  struct Expert {
    std::int32_t gpus_begin;
    std::int32_t gpus_end;
    std::int32_t num_replicas;
  };
  [[nodiscard]] std::span<const std::int32_t> gpus_of(const Expert& expert) const noexcept;
  [[nodiscard]] static double least(const Expert& expert, std::int64_t tokens,
                                    const ExpertCost& cost) noexcept;

  std::vector<Expert> experts_;
  std::vector<std::int32_t> gpus_;  // that have an expert, by expert
  std::vector<double> fixed_;       // [gpus] of experts that have no other GPU
  std::vector<double> pressure_;    // [gpus] if each expert were shared equally
  std::vector<std::int32_t> by_pressure_;
  std::vector<std::int32_t> rank_;  // [gpus] in by_pressure_
  std::vector<double> inside_;      // [gpus] of experts whose last GPU by rank is this one
};

}  // namespace metro::routing
