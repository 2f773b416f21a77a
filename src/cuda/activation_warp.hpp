// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/solver_memory.hpp"
#include "cuda/warp_macros.hpp"

namespace metro::cuda {

/// routing::ActivationSolver in one warp, bit for bit: a lane holds GPUs `lane` and, where there
/// are more than 32, `lane + 32`; experts are bits of words.
///
/// `Warp` gives the lane and the warp-wide operations: those of the GPU, or an emulation by which
/// the tests run this code on any machine. Every lane calls every member function.
template <class Warp, int kWords, int kGpuSets>
class ActivationWarp {
 public:
  static constexpr int kSets = kGpuSets;

  METRO_DEVICE ActivationWarp(const SolverMemory& memory, const Warp& warp)
      : memory_(memory), warp_(warp) {}

  /// Solves for the experts set in `active`, the same in every lane. Returns the optimum.
  METRO_DEVICE int solve(const std::uint32_t (&active)[kWords]) {
    int fixed[kGpuSets];
    int load_sum = 0;
    int load_max = 0;
    int fixed_max = 0;
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) {
      load_[set] = 0;
      fixed[set] = 0;
      const int gpu = gpu_in(set);
      METRO_UNROLL
      for (int w = 0; w < kWords; ++w) {
        const std::uint32_t base = base_mask(w, gpu) & active[w];
        hosts_[set][w] = host_mask(w, gpu);
        load_[set] += count_bits(base);
        fixed[set] += count_bits(base & ~hosts_[set][w]);
      }
      load_sum += load_[set];
      load_max = max_of(load_max, load_[set]);
      fixed_max = max_of(fixed_max, fixed[set]);
    }
    const int total = warp_.reduce_add(load_sum);
    const int most = warp_.reduce_max(load_max);
    const int bound = max_of(ceil_divide(total, num_gpus()), warp_.reduce_max(fixed_max));
    moves_ = 0;
    if (most <= bound) return most;
    return repair(active, bound);
  }

  /// Activated experts of GPU lane + 32 * set in the last solution; 0 beyond the last GPU.
  METRO_DEVICE int load(int set) const { return load_[set]; }
  /// Experts that left their base in the last solution, counted once per move.
  METRO_DEVICE int moves() const { return moves_; }

 private:
  using GpuMask = std::conditional_t<kGpuSets == 1, std::uint32_t, std::uint64_t>;
  static constexpr int kNoKey = 0x7FFFFFFF;

  METRO_DEVICE int gpu_in(int set) const { return warp_.lane() + 32 * set; }
  METRO_DEVICE std::uint32_t base_mask(int w, int gpu) const {
    return memory_.table[memory_.layout.base_masks + w * 32 * kGpuSets + gpu];
  }
  METRO_DEVICE std::uint32_t host_mask(int w, int gpu) const {
    return memory_.table[memory_.layout.host_masks + w * 32 * kGpuSets + gpu];
  }
  METRO_DEVICE static int word_of(int expert) { return expert >> 5; }
  METRO_DEVICE static std::uint32_t bit_of(int expert) { return 1U << (expert & 31); }
  METRO_DEVICE int num_gpus() const { return memory_.layout.num_gpus; }
  METRO_DEVICE std::uint32_t* row_of(int gpu) const { return memory_.scratch + gpu * kWords; }

  template <typename Predicate>
  METRO_DEVICE GpuMask gpus_where(Predicate predicate) const {
    GpuMask mask = warp_.ballot(predicate(0));
    if constexpr (kGpuSets == 2) mask |= GpuMask{warp_.ballot(predicate(1))} << 32;
    return mask;
  }

  /// The value that the lane of `gpu` holds for it.
  METRO_DEVICE int value_at(const int (&values)[kGpuSets], int gpu) const {
    const int low = warp_.shuffle(values[0], gpu & 31);
    if constexpr (kGpuSets == 1) {
      return low;
    } else {
      const int high = warp_.shuffle(values[1], gpu & 31);
      return gpu < 32 ? low : high;
    }
  }

  /// Moves experts off every GPU above the bound; returns the bound, raised where it must be.
  METRO_DEVICE int repair(const std::uint32_t (&active)[kWords], int bound) {
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) {
      const int gpu = gpu_in(set);
      std::uint32_t row[kWords];  // loads first: they must not wait for each other's stores
      METRO_UNROLL
      for (int w = 0; w < kWords; ++w) row[w] = base_mask(w, gpu) & active[w] & hosts_[set][w];
      if (gpu >= num_gpus()) continue;
      METRO_UNROLL
      for (int w = 0; w < kWords; ++w) row_of(gpu)[w] = row[w];
    }
    GpuMask above = gpus_where([&](int set) { return load_[set] > bound; });
    warp_.sync();
    while (above != 0) {
      relieve(lowest_bit(above), bound);
      above &= above - 1;
    }
    return bound;
  }

  METRO_DEVICE void relieve(int from, int& bound) {
    std::uint32_t row[kWords];  // experts with a choice on `from`; the same in every lane
    read_row(from, row);
    int load = value_at(load_, from);
    while (load > bound) {
      // Nearly always some GPU below the bound can take an expert directly.
      int expert[kGpuSets];
      int key = kNoKey;
      METRO_UNROLL
      for (int set = 0; set < kGpuSets; ++set) {
        expert[set] = common_expert(row, hosts_[set]);
        if (expert[set] >= 0 && load_[set] < bound) {  // never `from`: it is above the bound
          key = min_of(key, load_[set] * 64 + gpu_in(set));
        }
      }
      key = warp_.reduce_min(key);
      if (key != kNoKey) {
        const int target = key & 63;
        const int moved = value_at(expert, target);
        add_load(from, target);
        erase(row, moved);
        if (warp_.lane() == (target & 31)) {
          row_of(target)[word_of(moved)] |= bit_of(moved);
          memory_.gpu_of[moved] = static_cast<std::uint8_t>(target);
        }
        ++moves_;
        --load;
        continue;
      }
      write_row(from, row);
      if (move_along_path(from, bound)) {
        read_row(from, row);
        --load;
      }
    }
    write_row(from, row);
  }

  /// Breadth-first search from `from`. Shifts one expert along each step of the path found, or
  /// raises the bound to the mean of the GPUs that can be reached and returns false.
  METRO_DEVICE bool move_along_path(int from, int& bound) {
    int parent[kGpuSets];
    int expert[kGpuSets];
    bool reached[kGpuSets];
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) {
      reached[set] = gpu_in(set) == from;
      parent[set] = 0;
      expert[set] = 0;
    }
    GpuMask visited = GpuMask{1} << from;
    GpuMask frontier = visited;
    while (frontier != 0) {
      for (GpuMask rest = frontier; rest != 0; rest &= rest - 1) {
        const int gpu = lowest_bit(rest);
        std::uint32_t row[kWords];
        load_row(gpu, row);
        METRO_UNROLL
        for (int set = 0; set < kGpuSets; ++set) {
          const int common = common_expert(row, hosts_[set]);
          const bool is_new = common >= 0 && !reached[set];
          reached[set] = reached[set] || is_new;
          parent[set] = is_new ? gpu : parent[set];
          expert[set] = is_new ? common : expert[set];
        }
      }
      frontier = gpus_where([&](int set) { return reached[set]; }) & ~visited;
      visited |= frontier;
      int key = kNoKey;
      METRO_UNROLL
      for (int set = 0; set < kGpuSets; ++set) {
        const bool is_new = (frontier >> gpu_in(set) & 1) != 0;
        if (is_new && load_[set] < bound) key = min_of(key, load_[set] * 64 + gpu_in(set));
      }
      key = warp_.reduce_min(key);
      if (key == kNoKey) continue;
      const int target = key & 63;
      add_load(from, target);
      warp_.sync();  // all lanes have read their rows
      for (int gpu = target; gpu != from;) {
        const int previous = value_at(parent, gpu);
        const int moved = value_at(expert, gpu);
        if (warp_.lane() == 0) {
          row_of(previous)[word_of(moved)] &= ~bit_of(moved);
          row_of(gpu)[word_of(moved)] |= bit_of(moved);
          memory_.gpu_of[moved] = static_cast<std::uint8_t>(gpu);
        }
        ++moves_;
        gpu = previous;
      }
      warp_.sync();
      return true;
    }
    int sum = 0;
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) sum += reached[set] ? load_[set] : 0;
    bound = ceil_divide(warp_.reduce_add(sum), count_bits(visited));
    warp_.sync();
    return false;
  }

  METRO_DEVICE void add_load(int from, int target) {
    METRO_UNROLL
    for (int set = 0; set < kGpuSets; ++set) {
      load_[set] += (gpu_in(set) == target ? 1 : 0) - (gpu_in(set) == from ? 1 : 0);
    }
  }

  /// The lowest expert in both bitmaps, or -1.
  METRO_DEVICE static int common_expert(const std::uint32_t (&row)[kWords],
                                        const std::uint32_t (&hosts)[kWords]) {
    // A tree, not a chain: the first word with a bit, found in log2(kWords) steps.
    std::uint32_t bits[kWords];
    int first[kWords];
    METRO_UNROLL
    for (int w = 0; w < kWords; ++w) {
      bits[w] = row[w] & hosts[w];
      first[w] = 32 * w;
    }
    METRO_UNROLL
    for (int step = 1; step < kWords; step *= 2) {
      METRO_UNROLL
      for (int w = 0; w < kWords; w += 2 * step) {
        const bool low = bits[w] != 0;
        bits[w] = low ? bits[w] : bits[w + step];
        first[w] = low ? first[w] : first[w + step];
      }
    }
    return bits[0] != 0 ? first[0] + lowest_bit(bits[0]) : -1;
  }

  METRO_DEVICE static void erase(std::uint32_t (&row)[kWords], int expert) {
    METRO_UNROLL
    for (int w = 0; w < kWords; ++w) {
      row[w] &= w == word_of(expert) ? ~bit_of(expert) : ~0U;
    }
  }

  METRO_DEVICE void load_row(int gpu, std::uint32_t (&row)[kWords]) const {
    METRO_UNROLL
    for (int w = 0; w < kWords; ++w) row[w] = row_of(gpu)[w];
  }

  /// As load_row, after all lanes' writes.
  METRO_DEVICE void read_row(int gpu, std::uint32_t (&row)[kWords]) const {
    warp_.sync();
    load_row(gpu, row);
  }

  /// After all lanes' reads, and before their next ones.
  METRO_DEVICE void write_row(int gpu, const std::uint32_t (&row)[kWords]) const {
    warp_.sync();
    if (warp_.lane() == 0) {
      METRO_UNROLL
      for (int w = 0; w < kWords; ++w) row_of(gpu)[w] = row[w];
    }
    warp_.sync();
  }

  SolverMemory memory_;
  Warp warp_;
  std::uint32_t hosts_[kGpuSets][kWords];
  int load_[kGpuSets];
  int moves_ = 0;
};

}  // namespace metro::cuda
