// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "metro/topk.hpp"

namespace metro {

/// Lognormal expert popularity (sigma 0.7: that of the DeepSeek-V3 family is 0.5 to 0.95).
std::vector<double> lognormal_loads(int num_experts, std::uint64_t seed);

/// Batches of independent tokens, each with `topk` distinct experts drawn by `loads` without
/// replacement; topk is at most the number of experts.
std::vector<TopkBatch> draw_batches(const std::vector<double>& loads, int num_tokens, int topk,
                                    int num_batches, std::uint64_t seed);

}  // namespace metro
