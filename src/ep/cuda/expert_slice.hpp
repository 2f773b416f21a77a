// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "metro/ep/layer_config.hpp"

namespace metro::ep::cuda {

/// The columns of the intermediate width that a rank holds: [begin, end), padded with zeros to
/// `width`, which the kernels can take. All of them, or 1/G of them under moe-TP.
struct ExpertSlice {
  int begin = 0;
  int end = 0;
  int width = 0;
};
ExpertSlice whole_expert(const LayerShape& shape) noexcept;
ExpertSlice expert_slice(const LayerShape& shape, int rank, int num_ranks) noexcept;

}  // namespace metro::ep::cuda
