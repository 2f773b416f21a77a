// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "core/rng.hpp"
#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro::test {

/// How a random instance is drawn; everything follows from `seed`.
struct InstanceShape {
  int max_experts = 48;
  int max_gpus = 12;
  int max_tokens = 40;
  int max_topk = 8;
};

struct Instance {
  LayerPlacement placement;
  TopkBatch topk;
};

/// Any well-formed layer: uneven slots, empty GPUs, several copies on one GPU, one to many
/// replicas.
inline LayerPlacement random_placement(Rng& rng, int num_experts, int num_gpus) {
  LayerPlacement placement{num_experts, num_gpus, {}, {}, {}, {}};
  const auto extra = rng.below(static_cast<std::uint32_t>(2 * num_experts) + 1);
  // Some instances crowd their replicas on few GPUs, so that paths are long and bounds are raised.
  const auto all_gpus = static_cast<std::uint32_t>(num_gpus);
  const std::uint32_t crowd = rng.below(3) == 0 ? 1 + rng.below(all_gpus) : all_gpus;
  std::vector<std::int32_t> experts(static_cast<std::size_t>(num_experts));
  std::iota(experts.begin(), experts.end(), 0);
  for (std::uint32_t i = 0; i < extra; ++i) {
    experts.push_back(
        static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(num_experts))));
  }
  rng.shuffle(experts);
  placement.replica_to_expert = experts;
  for (std::size_t i = 0; i < experts.size(); ++i) {
    const std::uint32_t end = rng.below(4) == 0 ? all_gpus : crowd;
    placement.replica_to_gpu.push_back(static_cast<std::int32_t>(rng.below(end)));
  }
  if (rng.below(2) == 0) {
    placement.home.assign(static_cast<std::size_t>(num_experts), 0);
    for (std::size_t slot = 0; slot < experts.size(); ++slot) {
      auto& home = placement.home[static_cast<std::size_t>(experts[slot])];
      const bool holds = experts[static_cast<std::size_t>(home)] == experts[slot];
      if (!holds || rng.below(2) == 0) home = static_cast<std::int32_t>(slot);
    }
  }
  if (rng.below(2) == 0) {
    for (std::size_t i = 0; i < experts.size(); ++i)
      placement.shares.push_back(0.01 + rng.uniform());
  }
  return placement;
}

/// Tokens with skewed popularity; some ids are masked, a row may name an expert twice.
inline TopkBatch random_topk(Rng& rng, int num_experts, int num_tokens, int topk) {
  TopkBatch batch{{}, num_tokens, topk};
  const double skew = 1.0 + 3.0 * rng.uniform();
  const bool masks = rng.below(4) == 0;
  for (int i = 0; i < num_tokens * topk; ++i) {
    double at = rng.uniform();
    for (double s = 1.0; s + 1.0 <= skew; s += 1.0) at *= rng.uniform();
    const auto id = static_cast<std::int32_t>(at * num_experts);
    batch.ids.push_back(masks && rng.below(5) == 0 ? kMasked : std::min(id, num_experts - 1));
  }
  return batch;
}

inline Instance random_instance(std::uint64_t seed, const InstanceShape& shape = {}) {
  Rng rng(seed);
  const auto up_to = [&](int most) {
    return 1 + static_cast<int>(rng.below(static_cast<std::uint32_t>(most)));
  };
  const int num_experts = up_to(shape.max_experts);
  const int num_gpus = up_to(shape.max_gpus);
  const int num_tokens = rng.below(20) == 0 ? 0 : up_to(shape.max_tokens);
  LayerPlacement placement = random_placement(rng, num_experts, num_gpus);
  return {std::move(placement), random_topk(rng, num_experts, num_tokens, up_to(shape.max_topk))};
}

}  // namespace metro::test
