// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "layer_bench/cuda/random_experts.hpp"

namespace metro::layer_bench::cuda {

/// Several copies of a layer's expert weights that take turns in a benchmark, so that none is still
/// in the cache when it is needed again: as many as memory has room for, up to 4.
class WeightSets {
 public:
  /// Throws Error{kInfeasible} when not even one fits; `model` is for its message.
  WeightSets(const std::string& model, const ep::LayerShape& shape, std::uint64_t seed);

  [[nodiscard]] std::size_t count() const noexcept { return sets_.size(); }
  /// All experts of the layer, by id.
  [[nodiscard]] const RandomGpuExperts& operator[](std::size_t i) const { return *sets_[i]; }

 private:
  std::vector<std::unique_ptr<RandomGpuExperts>> sets_;
};

}  // namespace metro::layer_bench::cuda
