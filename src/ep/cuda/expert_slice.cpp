// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/expert_slice.hpp"

#include <cstdint>

namespace metro::ep::cuda {
namespace {

constexpr int kWidthStep = 16;  // what the expert kernels take

ExpertSlice padded(int begin, int end, int widest) {
  return {begin, end, (widest + kWidthStep - 1) / kWidthStep * kWidthStep};
}

}  // namespace

ExpertSlice whole_expert(const LayerShape& shape) noexcept {
  return padded(0, shape.intermediate, shape.intermediate);
}

ExpertSlice expert_slice(const LayerShape& shape, int rank, int num_ranks) noexcept {
  const auto at = [&](int r) {
    return static_cast<int>(std::int64_t{shape.intermediate} * r / num_ranks);
  };
  return padded(at(rank), at(rank + 1), (shape.intermediate + num_ranks - 1) / num_ranks);
}

}  // namespace metro::ep::cuda
