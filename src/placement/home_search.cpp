// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/replica_index.hpp"
#include "metro/error.hpp"
#include "metro/homes.hpp"

namespace metro {
namespace {

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

/// Lowers the load of the fullest GPU by chains of moves that start there.
///
/// A chain takes an expert off the fullest GPU, another one off the GPU that got it, and so on, and
/// ends on a GPU that may have one home more, or back on the first. Of the shortest chains that
/// help, the one that leaves the least on the fullest GPU that it touches is taken, the first found
/// if several. Ends when no chain helps, or after a number of steps that no real layer needs.
class HomeSearch {
 public:
  HomeSearch(const ReplicaIndex& index, std::vector<std::int32_t> home, std::vector<double> load)
      : index_(index),
        home_(std::move(home)),
        load_(std::move(load)),
        at_home_(at(index.num_gpus())),
        gpu_load_(at(index.num_gpus()), 0.0),
        in_chain_(at(index.num_gpus()), 0),
        steps_left_(kStepsEach * static_cast<std::int64_t>(home_.size()) + kStepsAtLeast) {
    for (int e = 0; e < index.num_experts(); ++e) {
      at_home_[at(gpu_of(e))].push_back(e);
      gpu_load_[at(gpu_of(e))] += load_[at(e)];
    }
    for (const auto& experts : at_home_) most_homes_ = std::max(most_homes_, experts.size());
  }

  std::vector<std::int32_t> run() {
    while (improve()) {
    }
    return std::move(home_);
  }

 private:
  static constexpr std::size_t kLongestChain = 4;
  static constexpr std::int64_t kStepsEach = 64;
  static constexpr std::int64_t kStepsAtLeast = 1 << 16;
  static constexpr double kLeastGain = 1e-9;  // of a GPU's load: above what rounding may feign

  struct Move {
    std::int32_t expert;
    Candidate to;
  };

  [[nodiscard]] std::int32_t gpu_of(std::int32_t expert) const {
    return index_.replica_to_gpu()[at(home_[at(expert)])];
  }

  bool improve() {
    const auto fullest = std::ranges::max_element(gpu_load_);
    first_ = static_cast<std::int32_t>(fullest - gpu_load_.begin());
    bound_ = *fullest * (1 - kLeastGain);
    best_.clear();
    for (std::size_t length = 1; length <= kLongestChain && best_.empty(); ++length) {
      extend(first_, 0.0, 0.0, length);
    }
    for (const Move& move : best_) apply(move);
    return !best_.empty();
  }

  /// Tries every chain of `length` further moves that goes on from `gpu`, which gained `gained`;
  /// `fullest`: the largest load on the GPUs before it, as the chain leaves them.
  void extend(std::int32_t gpu, double gained, double fullest, std::size_t length) {
    in_chain_[at(gpu)] = 1;
    for (const std::int32_t expert : at_home_[at(gpu)]) {
      if (--steps_left_ < 0) break;
      const auto candidates = index_.candidates(expert);
      if (candidates.size() < 2) continue;
      const double left = gpu == first_ ? 0 : gpu_load_[at(gpu)] + gained - load_[at(expert)];
      const double so_far = std::max(fullest, left);
      if (so_far >= bound_) continue;
      for (const Candidate& to : candidates) {
        if (to.gpu == gpu || --steps_left_ < 0) continue;
        chain_.push_back({expert, to});
        if (length > 1) {
          if (in_chain_[at(to.gpu)] == 0) extend(to.gpu, load_[at(expert)], so_far, length - 1);
        } else {
          finish(so_far);
        }
        chain_.pop_back();
      }
    }
    in_chain_[at(gpu)] = 0;
  }

  /// Keeps the chain if it is the best so far.
  void finish(double fullest) {
    const Move& last = chain_.back();
    const double on_first = gpu_load_[at(first_)] - load_[at(chain_.front().expert)];
    const double gained = load_[at(last.expert)];
    if (last.to.gpu == first_) {
      fullest = std::max(fullest, on_first + gained);
    } else {
      if (in_chain_[at(last.to.gpu)] != 0 || at_home_[at(last.to.gpu)].size() == most_homes_) {
        return;
      }
      fullest = std::max({fullest, on_first, gpu_load_[at(last.to.gpu)] + gained});
    }
    if (fullest >= bound_) return;
    bound_ = fullest;
    best_ = chain_;
  }

  void apply(const Move& move) {
    const std::int32_t from = gpu_of(move.expert);
    auto& left = at_home_[at(from)];
    left.erase(std::ranges::lower_bound(left, move.expert));
    auto& joined = at_home_[at(move.to.gpu)];
    joined.insert(std::ranges::lower_bound(joined, move.expert), move.expert);
    gpu_load_[at(from)] -= load_[at(move.expert)];
    gpu_load_[at(move.to.gpu)] += load_[at(move.expert)];
    home_[at(move.expert)] = move.to.slot;
  }

  const ReplicaIndex& index_;
  std::vector<std::int32_t> home_;                  // [experts] slot
  std::vector<double> load_;                        // [experts]
  std::vector<std::vector<std::int32_t>> at_home_;  // [gpus] experts, ascending
  std::vector<double> gpu_load_;                    // [gpus]
  std::vector<char> in_chain_;                      // [gpus]
  std::size_t most_homes_ = 0;
  std::int64_t steps_left_;

  std::int32_t first_ = 0;
  double bound_ = 0;
  std::vector<Move> chain_;
  std::vector<Move> best_;
};

}  // namespace

std::vector<std::int32_t> solve_homes(const LayerPlacement& placement,
                                      std::span<const double> load) {
  LayerPlacement bare = placement;
  bare.home.clear();
  const ReplicaIndex index(bare);
  if (load.size() != at(placement.num_experts)) {
    throw Error(ErrorCode::kInput, fmt::format("loads have {} experts, the placement has {}",
                                               load.size(), placement.num_experts));
  }
  std::vector<double> scaled(load.begin(), load.end());
  if (const double largest = std::ranges::max(scaled); largest > 0) {
    for (double& tokens : scaled) tokens /= largest;  // so that no sum can overflow
  }
  return HomeSearch(index, {index.home().begin(), index.home().end()}, std::move(scaled)).run();
}

}  // namespace metro
