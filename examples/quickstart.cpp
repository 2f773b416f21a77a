// SPDX-License-Identifier: Apache-2.0
// Places replicas of one MoE layer's experts, routes one decode batch under several policies, and
// prints how many replicas the busiest GPU has to read from memory under each.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iomanip>
#include <iostream>
#include <random>
#include <vector>

#include "metro/error.hpp"
#include "metro/loads.hpp"
#include "metro/metrics.hpp"
#include "metro/placement.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "metro/topk.hpp"

namespace {

constexpr int kNumExperts = 64;
constexpr int kNumGpus = 8;
constexpr int kNumTokens = 16;
constexpr int kTopk = 6;

/// Expert e is chosen about (e + 1)^-0.6 as often as expert 0, as a trained router's skew.
std::vector<double> popularity() {
  std::vector<double> weights;
  for (int expert = 0; expert < kNumExperts; ++expert) {
    weights.push_back(std::pow(expert + 1, -0.6));
  }
  return weights;
}

/// A batch as a router would give it: `kTopk` different experts for every token.
metro::TopkBatch draw_batch(const std::vector<double>& weights) {
  std::mt19937 random(7);
  metro::TopkBatch batch{.ids = {}, .num_tokens = kNumTokens, .topk = kTopk};
  for (int token = 0; token < kNumTokens; ++token) {
    std::vector<double> left = weights;
    for (int k = 0; k < kTopk; ++k) {
      const int expert = std::discrete_distribution<int>(left.begin(), left.end())(random);
      left[static_cast<std::size_t>(expert)] = 0.0;
      batch.ids.push_back(expert);
    }
  }
  return batch;
}

}  // namespace

int main() try {
  // Loads come from a profile of the served traffic; here they are the popularity itself.
  const metro::Loads loads{.num_layers = 1, .num_experts = kNumExperts, .tokens = popularity()};
  const metro::PlacementRequest request{.num_replicas = kNumExperts * 3 / 2, .num_gpus = kNumGpus};
  const metro::Placement placement = metro::place(loads, request, "homed");
  const metro::LayerPlacement& layer = placement.layers.front();

  const metro::TopkBatch batch = draw_batch(loads.tokens);
  std::vector<std::int32_t> replica_ids(batch.ids.size());
  metro::MetricsCounter counter(layer);

  std::cout << kNumTokens << " tokens, top-" << kTopk << " of " << kNumExperts << " experts, "
            << layer.num_replicas() << " replicas on " << kNumGpus << " GPUs\n"
            << "policy       max activated  activated per GPU\n";
  for (const char* policy : {"even", "optimal"}) {
    metro::Router router(layer, policy);
    router.route(batch.view(), replica_ids);
    const metro::RoutingMetrics& metrics = counter.count(replica_ids);
    std::cout << std::left << std::setw(13) << policy << std::right << std::setw(13)
              << metrics.max_activated << " ";
    for (const int activated : metrics.activated_per_gpu) std::cout << ' ' << activated;
    std::cout << '\n';
  }
  return 0;
} catch (const metro::Error& error) {
  std::cerr << error.what() << '\n';
  return static_cast<int>(error.code());
}
