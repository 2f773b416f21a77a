// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/moe_ranks.hpp"
#include "support/moe_reference.hpp"

/// Small layers, every way to run them, and how far outputs are from the reference.
namespace metro::test {

struct Way {
  ep::Dispatch dispatch;
  ep::Combine combine;
};
inline constexpr Way kWays[] = {{ep::Dispatch::kAllGather, ep::Combine::kReduceScatter},
                                {ep::Dispatch::kAllGather, ep::Combine::kAllToAll},
                                {ep::Dispatch::kAllToAll, ep::Combine::kAllToAll}};

inline ep::LayerShape small_shape() {
  return {.hidden = 20, .intermediate = 12, .num_experts = 16, .topk = 4, .shared_intermediate = 6};
}

inline MoeCase small_case(int ranks, std::uint64_t seed) {
  MoeCase test{.shape = small_shape(), .seed = seed};
  test.weight_seed = seed;
  Rng rng(seed);
  for (int r = 0; r < ranks; ++r) test.tokens.push_back(static_cast<int>(rng.below(5)));
  if (ranks > 1) test.tokens[1] = 0;
  test.tokens[0] += 1;
  test.steps = {random_placement(rng, test.shape.num_experts, ranks)};
  return test;
}

/// Largest distance of an output from the reference's; outputs are about 1 in size.
inline double distance(const MoeCase& test, const std::vector<float>& x,
                       const std::vector<float>& out,
                       const std::vector<std::int32_t>& expert_ids = {}) {
  const MoeReference reference(test.shape, test.weight_seed);
  const auto hidden = static_cast<std::size_t>(test.shape.hidden);
  const auto topk = static_cast<std::size_t>(test.shape.topk);
  double worst = 0;
  for (std::size_t t = 0; t < x.size() / hidden; ++t) {
    const std::vector<double> expected = reference.output(
        x.data() + t * hidden, expert_ids.empty() ? nullptr : expert_ids.data() + t * topk);
    for (std::size_t h = 0; h < hidden; ++h) {
      worst = std::max(worst, std::abs(expected[h] - double{out[t * hidden + h]}));
    }
  }
  return worst;
}

inline std::size_t assignments(const MoeOutcome& outcome) {
  std::size_t sum = 0;
  for (const ep::LayerRun& run : outcome.runs) sum += run.assignments;
  return sum;
}

}  // namespace metro::test
