// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/expert_cost.hpp"
#include "routing/activation_solver.hpp"
#include "routing/slot_map.hpp"
#include "routing/time_bound.hpp"

namespace metro::routing {

/// Splits each expert's tokens over its replicas so that the slowest GPU's modelled time is little.
///
/// Prices the answers of `optimal`, its starting point, `home`, `single` and `even`, and never ends
/// above any of them. If none is at the bound, it improves the best of them and an answer built
/// from nothing, and stops at the bound. Times are added in one order, a GPU's replicas by slot,
/// and all ties go to the lowest number, so the answer is the same everywhere.
class TimeBalancer {
 public:
  TimeBalancer(const LayerPlacement& placement, const ReplicaIndex& index,
               std::shared_ptr<const ExpertCost> cost);

  /// Tokens that each replica gets of a batch. Valid, and the caller's to change, until the next
  /// call. Never allocates.
  std::span<std::int64_t> solve(std::span<const std::int32_t> ids) noexcept;

 private:
  struct Move {
    std::int32_t from = -1;  // a slot; -1: no move
    std::int32_t to = -1;
    std::int64_t tokens = 0;
    double slowest = 0;  // of the two GPUs, after it
  };
  using Quota = std::vector<std::int64_t>;  // [replicas]

  [[nodiscard]] std::span<const std::int32_t> replicas(std::int32_t expert) const noexcept;
  void take_slots(std::span<const std::int32_t> slots) noexcept;
  void take_even() noexcept;
  void build(double bound) noexcept;
  void place_one(std::int32_t expert, double& target) noexcept;
  std::int64_t fill(std::span<const std::int32_t> slots, std::int64_t tokens, double level,
                    bool keep) noexcept;
  void price() noexcept;
  void keep_if_better() noexcept;
  void improve(double bound) noexcept;
  [[nodiscard]] std::int32_t slowest_gpu() const noexcept;
  [[nodiscard]] Move best_move(std::int32_t gpu, double limit) const noexcept;
  void consider(std::int32_t from, std::int32_t to, std::int64_t tokens, Move& best) const noexcept;
  void add(std::int32_t slot, std::int64_t tokens) noexcept;
  void apply(std::int32_t from, std::int32_t to, std::int64_t tokens) noexcept;
  bool move_twice(std::int32_t gpu, double peak) noexcept;

  std::shared_ptr<const ExpertCost> cost_;
  ActivationSolver solver_;
  ActiveFlags flags_;
  TimeBound bound_;
  std::int32_t num_experts_;
  std::vector<std::int32_t> expert_of_;      // [replicas]
  std::vector<std::int32_t> gpu_of_;         // [replicas]
  std::vector<std::int32_t> replica_begin_;  // [experts + 1] into replicas_
  std::vector<std::int32_t> replicas_;       // by expert, ascending
  std::vector<std::int32_t> movable_begin_;  // [gpus + 1] into movable_
  std::vector<std::int32_t> movable_;        // slots of experts with several, by GPU
  std::vector<std::int32_t> single_;         // [experts] slots of the fixed answers
  std::vector<std::int32_t> home_;
  std::vector<std::int32_t> base_;

  std::vector<std::int64_t> tokens_;   // [experts + 1]
  std::vector<std::int32_t> slots_;    // [experts]
  std::vector<std::int32_t> order_;    // [experts]
  std::vector<std::int32_t> nearest_;  // [replicas of one expert]
  std::vector<double> before_;         // [replicas of one expert]
  Quota quota_;
  Quota best_;
  std::vector<double> load_;  // [gpus] of quota_
  double slowest_ = 0;
  double best_slowest_ = 0;
};

}  // namespace metro::routing
