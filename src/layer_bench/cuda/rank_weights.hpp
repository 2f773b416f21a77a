// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "layer_bench/bench_grid.hpp"
#include "layer_bench/cuda/random_experts.hpp"

namespace metro::layer_bench::cuda {

/// The weights of this rank's slots under one case, several times over, so that none
/// is still in the cache when it is needed again.
class RankWeights {
 public:
  /// Throws Error{kDevice} when they do not fit.
  RankWeights(const ep::LayerShape& shape, const BenchCase& of, int rank, int num_ranks,
              std::uint64_t seed);

  [[nodiscard]] bool serve(const BenchCase& of) const {
    return sharding_ == of.sharding && placement_ == of.placement;
  }
  /// The next copy in turn.
  [[nodiscard]] std::span<const ep::cuda::ExpertPointers> next() {
    turn_ = (turn_ + 1) % pointers_.size();
    return pointers_[turn_];
  }

 private:
  LayerPlacement placement_;
  ep::ExpertSharding sharding_;
  std::vector<std::unique_ptr<RandomGpuExperts>> sets_;
  std::vector<std::vector<ep::cuda::ExpertPointers>> pointers_;  // [sets][local slots]
  std::size_t turn_ = 0;
};

}  // namespace metro::layer_bench::cuda
