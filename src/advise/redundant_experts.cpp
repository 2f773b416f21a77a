// SPDX-License-Identifier: Apache-2.0
#include "advise/redundant_experts.hpp"

#include <fmt/format.h>

#include <numeric>

#include "metro/error.hpp"
#include "metro/placer.hpp"

namespace metro {
namespace {

/// GPUs, or groups of them, over which an instance spreads whole experts.
int expert_gpus(const SimulationConfig& serving, int gpus) {
  const Deployment& deployment = serving.deployment;
  return deployment.expert_gpus() == deployment.gpus ? gpus : deployment.ep;
}

/// The number above 0 next to `redundant` with which `gpus` share all replicas; of two the larger.
int nearest(int redundant, int experts, int gpus) {
  const int above = redundant + gpus - (experts + redundant) % gpus;
  const int below = above - gpus;
  return below > 0 && redundant - below < above - redundant ? below : above;
}

}  // namespace

std::vector<double> replication_with(std::string_view name, std::span<const int> redundant,
                                     const SimulationConfig& serving) {
  const int experts = serving.model.num_experts;
  const int decode_gpus = serving.deployment.gpus - serving.prefill_gpus;
  int gpus = expert_gpus(serving, decode_gpus);
  if (serving.prefill_gpus > 0) gpus = std::lcm(gpus, expert_gpus(serving, serving.prefill_gpus));
  std::vector<double> replication;
  for (const int extra : redundant) {
    if ((experts + extra) % gpus != 0) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("{} has {}: {} experts and {} more cannot be shared out equally over "
                              "{} GPUs; the nearest that can is {}",
                              name, extra, experts, extra, gpus, nearest(extra, experts, gpus)));
    }
    replication.push_back(static_cast<double>(experts + extra) / experts);
  }
  return replication;
}

int redundant_experts(const AdviceCandidate& candidate, const SimulationConfig& serving) {
  if (candidate.replication == 1) return 0;
  const int decode_gpus = serving.deployment.gpus - serving.prefill_gpus;
  const int experts = serving.model.num_experts;
  const int gpus = expert_gpus(serving, decode_gpus) / candidate.shards;
  return replicas_for(experts, candidate.replication, gpus) - experts;
}

}  // namespace metro
