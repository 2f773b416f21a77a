// SPDX-License-Identifier: Apache-2.0
#include "replay/synthetic_batches.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "core/rng.hpp"

namespace metro {

std::vector<double> lognormal_loads(int num_experts, std::uint64_t seed) {
  constexpr double kSigma = 0.7;
  Rng rng(seed);
  std::vector<double> loads(static_cast<std::size_t>(num_experts));
  for (double& load : loads) {
    const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));  // Box-Muller
    load = std::exp(kSigma * radius * std::cos(2 * std::numbers::pi * rng.uniform()));
  }
  return loads;
}

std::vector<TopkBatch> draw_batches(const std::vector<double>& loads, int num_tokens, int topk,
                                    int num_batches, std::uint64_t seed) {
  Rng rng(mix64(seed));
  // The k smallest of Exp(1) / load are k draws without replacement.
  std::vector<std::pair<double, std::int32_t>> keys(loads.size());
  std::vector<TopkBatch> batches(static_cast<std::size_t>(num_batches));
  for (TopkBatch& batch : batches) {
    batch.num_tokens = num_tokens;
    batch.topk = topk;
    for (int token = 0; token < num_tokens; ++token) {
      for (std::size_t e = 0; e < loads.size(); ++e) {
        keys[e] = {-std::log(1 - rng.uniform()) / loads[e], static_cast<std::int32_t>(e)};
      }
      std::ranges::partial_sort(keys, keys.begin() + topk);
      for (int k = 0; k < topk; ++k) batch.ids.push_back(keys[static_cast<std::size_t>(k)].second);
    }
  }
  return batches;
}

}  // namespace metro
