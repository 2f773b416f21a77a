// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/error.hpp"
#include "metro/placer.hpp"

namespace metro {
namespace {

/// Done when no expert has tokens on a GPU that is above another of its GPUs by more than this part
/// of the mean GPU load. The maximum is then off by at most G - 1 times that.
constexpr double kTolerance = 1e-9;
/// Bounds the time that a very long chain of GPUs may take: parts looked at, of which real layers
/// need some ten thousand.
constexpr std::size_t kMaxVisits = 2'000'000'000;
/// Two-GPU experts move this many times what would level their GPUs, which saves sweeps.
constexpr double kOverRelaxation = 1.5;

/// Splits each expert's load over its GPUs so that the GPU loads are as even as can be.
///
/// Sweeps over the experts, pouring each one like water over its GPUs, the others fixed. That is
/// coordinate descent (projected SOR, Cryer 1971) on the sum of squared GPU loads; where that is
/// least the maximum is least too, and so is every next one (Fujishige's lexicographic optimum).
class WaterFilling {
 public:
  WaterFilling(const ReplicaIndex& index, std::span<const double> load)
      : load_(load), gpu_load_(static_cast<std::size_t>(index.num_gpus()), 0.0) {
    first_.reserve(load.size() + 1);
    first_.push_back(0);
    double total = 0;
    for (int e = 0; e < index.num_experts(); ++e) {
      const auto gpus = index.candidates(e);
      const double tokens = load[static_cast<std::size_t>(e)];
      const double part = tokens / static_cast<double>(gpus.size());
      for (const Candidate& gpu : gpus) {
        parts_.push_back({static_cast<std::size_t>(gpu.gpu), part});
        gpu_load_[parts_.back().gpu] += part;
      }
      total += tokens;
      first_.push_back(parts_.size());
      if (gpus.size() > 1 && tokens > 0) {
        movable_.push_back(static_cast<std::size_t>(e));
        movable_parts_ += gpus.size();
      }
    }
    tolerance_ = kTolerance * total / static_cast<double>(gpu_load_.size());
  }

  void solve() {
    bool moved = !movable_.empty();
    for (std::size_t visits = 0; moved && visits < kMaxVisits; visits += movable_parts_) {
      moved = false;
      for (const std::size_t e : movable_) moved |= pour(e);
    }
  }

  /// Writes the part of the expert's tokens that goes to each of its GPUs, by GPU.
  void shares(int expert, std::span<double> by_gpu) {
    const auto parts = parts_of(static_cast<std::size_t>(expert));
    // Their sum is the load but for rounding; nothing is left of a load far below its GPUs'.
    double sum = 0;
    for (const Part& part : parts) sum += part.tokens;
    for (const Part& part : parts) {
      by_gpu[part.gpu] = sum > 0 ? part.tokens / sum : 1.0 / static_cast<double>(parts.size());
    }
  }

 private:
  struct Part {
    std::size_t gpu;
    double tokens;
  };

  std::span<Part> parts_of(std::size_t expert) {
    return std::span(parts_).subspan(first_[expert], first_[expert + 1] - first_[expert]);
  }

  /// Levels one expert's GPUs as far as its own tokens can; false if they were level.
  bool pour(std::size_t expert) {
    const std::span<Part> parts = parts_of(expert);
    double lowest = std::numeric_limits<double>::infinity();
    double highest = 0;
    for (const Part& part : parts) {
      lowest = std::min(lowest, gpu_load_[part.gpu]);
      if (part.tokens > 0) highest = std::max(highest, gpu_load_[part.gpu]);
    }
    if (highest - lowest <= tolerance_) return false;
    if (parts.size() == 2) {
      pour_pair(parts[0], parts[1]);
    } else {
      pour_all(parts, load_[expert]);
    }
    return true;
  }

  void pour_pair(Part& a, Part& b) {
    const double excess = gpu_load_[a.gpu] - gpu_load_[b.gpu];
    const double move = std::clamp(excess * (kOverRelaxation / 2), -b.tokens, a.tokens);
    a.tokens -= move;
    b.tokens += move;
    gpu_load_[a.gpu] -= move;
    gpu_load_[b.gpu] += move;
  }

  void pour_all(std::span<Part> parts, double volume) {
    floors_.clear();
    for (const Part& part : parts) {
      floors_.push_back(gpu_load_[part.gpu] -= part.tokens);
    }
    std::ranges::sort(floors_);
    double level = floors_[0] + volume;
    double sum = volume;
    for (std::size_t i = 0; i < floors_.size() && floors_[i] < level; ++i) {
      sum += floors_[i];
      level = sum / static_cast<double>(i + 1);
    }
    for (Part& part : parts) {
      part.tokens = std::max(0.0, level - gpu_load_[part.gpu]);
      gpu_load_[part.gpu] += part.tokens;
    }
  }

  std::span<const double> load_;
  std::vector<double> gpu_load_;
  std::vector<std::size_t> first_;    // [experts + 1] into parts_
  std::vector<Part> parts_;           // by (expert, candidate GPU)
  std::vector<std::size_t> movable_;  // experts with a choice
  std::size_t movable_parts_ = 0;     // of all of them
  std::vector<double> floors_;        // scratch of pour_all
  double tolerance_ = 0;
};

}  // namespace

std::vector<double> solve_shares(const LayerPlacement& placement, std::span<const double> load) {
  const ReplicaIndex index(placement);
  if (load.size() != static_cast<std::size_t>(placement.num_experts)) {
    throw Error(ErrorCode::kInput, fmt::format("load has {} entries, must have one per expert ({})",
                                               load.size(), placement.num_experts));
  }
  // Scaled so that no sum can overflow.
  const double largest = std::ranges::max(load);
  std::vector<double> scaled(load.begin(), load.end());
  if (largest > 0) {
    for (double& tokens : scaled) tokens /= largest;
  }
  WaterFilling filling(index, scaled);
  filling.solve();

  std::vector<double> shares(placement.replica_to_expert.size());
  std::vector<double> share_of(static_cast<std::size_t>(placement.num_gpus));  // of one expert
  std::vector<std::int32_t> copies_on(share_of.size(), 0);
  for (int e = 0; e < placement.num_experts; ++e) {
    const auto slots = index.replicas(e);
    const double tokens = scaled[static_cast<std::size_t>(e)];
    const auto gpu_of = [&](std::int32_t slot) {
      return static_cast<std::size_t>(placement.replica_to_gpu[static_cast<std::size_t>(slot)]);
    };
    if (slots.size() == 1 || tokens <= 0) {
      for (const std::int32_t slot : slots) {
        shares[static_cast<std::size_t>(slot)] = 1.0 / static_cast<double>(slots.size());
      }
      continue;
    }
    filling.shares(e, share_of);
    for (const std::int32_t slot : slots) ++copies_on[gpu_of(slot)];
    for (const std::int32_t slot : slots) {
      shares[static_cast<std::size_t>(slot)] = share_of[gpu_of(slot)] / copies_on[gpu_of(slot)];
    }
    for (const std::int32_t slot : slots) copies_on[gpu_of(slot)] = 0;
  }
  return shares;
}

}  // namespace metro
