// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/replica_index.hpp"

namespace metro::routing {

/// Chooses one GPU per active expert so that the busiest GPU gets as few as possible: exactly.
///
/// Every expert starts on its *base* GPU, fixed per placement so that a batch which activates all
/// experts is already optimal there: its home, levelled where the placement's own homes are not.
/// `bound` starts at max(ceil(active / G), most experts on a GPU that have no choice), which no
/// assignment can beat. Each GPU above it, in ascending order, moves experts away along shortest
/// paths to a GPU below it. Where no path is left, the GPUs reached from there can only serve each
/// other's experts, so their mean, rounded up, is a new bound that no assignment can beat; hence
/// the answer is optimal when no GPU is above the bound.
///
/// Tie rules, which the CUDA kernel follows bit for bit: the search goes level by level, GPUs of
/// a level in ascending order; a GPU is reached from the first GPU that can move an expert to it,
/// by that GPU's lowest such expert; of the GPUs below the bound in the first level that has any,
/// the least loaded is taken, the lowest if several.
class ActivationSolver {
 public:
  explicit ActivationSolver(const ReplicaIndex& index);

  /// Writes the slot of each expert (of an inactive one, its base slot) to `slots` and returns the
  /// optimum. Both spans have one entry per expert; `active` holds 0 or 1. Never allocates.
  int solve(std::span<const std::uint8_t> active, std::span<std::int32_t> slots) noexcept;

  /// Candidate of each expert that `solve` starts from: what a kernel needs beside the placement.
  [[nodiscard]] std::span<const Candidate> base() const noexcept { return base_; }

 private:
  /// An expert with a choice, on the list of a GPU that could serve it.
  struct Hosted {
    std::int32_t expert;
    std::int32_t candidates_begin;
    std::int32_t candidates_end;
  };
  /// How a search came to a GPU.
  struct Reached {
    std::uint32_t search = 0;  // the last search that did,
    std::int32_t from = 0;     // from this GPU
    std::int32_t expert = 0;   // by moving this expert
    std::int32_t slot = 0;     // to this slot
  };

  void set_base(std::vector<Candidate> base);
  int relieve(int gpu, int bound, std::span<std::int32_t> slots) noexcept;
  bool move_directly(int from, int bound, std::span<std::int32_t> slots) noexcept;
  [[nodiscard]] int find_path(int from, int bound) noexcept;
  void move_along(int from, int target, std::span<std::int32_t> slots) noexcept;
  [[nodiscard]] int bound_of_visited() const noexcept;

  int num_gpus_;
  std::vector<Candidate> base_;             // [experts]
  std::vector<std::int32_t> base_slots_;    // [experts]
  std::vector<std::int32_t> base_gpus_;     // [experts]
  std::vector<std::int32_t> by_base_;       // experts by (base GPU, has a choice, id)
  std::vector<std::int32_t> fixed_begin_;   // [gpus + 1] into by_base_
  std::vector<std::int32_t> free_begin_;    // [gpus] into by_base_
  std::vector<Candidate> candidates_;       // of the experts with a choice, by expert
  std::vector<std::int32_t> expert_of_;     // [candidates_]
  std::vector<Hosted> hosted_;              // by GPU, then expert
  std::vector<std::int32_t> hosted_begin_;  // [gpus + 1]
  std::vector<std::uint8_t> has_choice_;    // [experts]

  std::vector<std::int32_t> gpus_;     // [experts] GPU in this solution, -1 if inactive
  std::vector<std::int32_t> load_;     // [gpus]
  std::vector<Reached> reached_;       // [gpus]
  std::vector<std::int32_t> visited_;  // GPUs in the order reached; capacity [gpus]
  std::uint32_t search_ = 0;
};

}  // namespace metro::routing
