// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/solver_memory.hpp"
#include "cuda/warp_macros.hpp"

namespace metro::cuda {

/// routing::GreedyPolicy in one warp, bit for bit: active experts one by one in the table's order,
/// each to the least activated of its candidates. As ActivationWarp otherwise.
template <class Warp, int kWords, int kGpuSets>
class GreedyWarp {
 public:
  static constexpr int kSets = kGpuSets;

  METRO_DEVICE GreedyWarp(const SolverMemory& memory, const Warp& warp)
      : memory_(memory), warp_(warp) {}

  METRO_DEVICE int solve(const std::uint32_t (&active)[kWords]) {
    if (warp_.lane() == 0) {
      METRO_UNROLL
      for (int w = 0; w < kWords; ++w) memory_.scratch[w] = active[w];
    }
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) load_[set] = 0;
    moves_ = 0;
    warp_.sync();
    for (int begin = 0; begin < memory_.layout.num_experts; begin += 32) visit(begin);
    int most = load_[0];
    if constexpr (kGpuSets == 2) most = max_of(most, load_[1]);
    return warp_.reduce_max(most);
  }

  METRO_DEVICE int load(int set) const { return load_[set]; }
  METRO_DEVICE int moves() const { return moves_; }

 private:
  static constexpr int kNoKey = 0x7FFFFFFF;

  /// The 32 experts at `begin` in the order.
  METRO_DEVICE void visit(int begin) {
    const TableLayout& layout = memory_.layout;
    const int position = begin + warp_.lane();
    int expert = 0;
    bool is_active = false;
    int gpus[kGpuSets] = {};
    if (position < layout.num_experts) {
      expert = static_cast<int>(memory_.table[layout.order + position]);
      is_active = (memory_.scratch[expert / 32] >> (expert % 32) & 1U) != 0;
      METRO_UNROLL
      for (int set = 0; set < kGpuSets; ++set) {
        gpus[set] = static_cast<int>(memory_.table[layout.order_gpus + 2 * position + set]);
      }
    }
    std::uint32_t rest = warp_.ballot(is_active);
    int chosen = 0;
    int candidates[kGpuSets] = {};
    if (rest != 0) fetch(gpus, lowest_bit(rest), candidates);
    while (rest != 0) {
      const int turn = lowest_bit(rest);
      rest &= rest - 1;
      int key = kNoKey;
      METRO_UNROLL
      for (int set = 0; set < kGpuSets; ++set) {
        const bool can = (static_cast<std::uint32_t>(candidates[set]) >> warp_.lane() & 1U) != 0;
        if (can) key = min_of(key, load_[set] * 64 + warp_.lane() + 32 * set);
      }
      key = warp_.reduce_min(key);
      // The next expert's candidates arrive while the reduction runs.
      if (rest != 0) fetch(gpus, lowest_bit(rest), candidates);
      const int target = key & 63;
      METRO_UNROLL
      for (int set = 0; set < kGpuSets; ++set) {
        load_[set] += warp_.lane() + 32 * set == target ? 1 : 0;
      }
      if (warp_.lane() == turn) chosen = target;
      ++moves_;
    }
    if (is_active) memory_.gpu_of[expert] = static_cast<std::uint8_t>(chosen);
  }

  METRO_DEVICE void fetch(const int (&gpus)[kGpuSets], int lane, int (&candidates)[kGpuSets]) {
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) candidates[set] = warp_.shuffle(gpus[set], lane);
  }

  SolverMemory memory_;
  Warp warp_;
  int load_[kGpuSets];
  int moves_ = 0;
};

}  // namespace metro::cuda
