// SPDX-License-Identifier: Apache-2.0
// A decode loop as an engine has it: routers of all layers, loads counted, a new placement now and
// then.
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <metro/placer.hpp>
#include <metro/router.hpp>
#include <random>
#include <vector>

int main() {
  constexpr int kLayers = 3, kExperts = 16, kTokens = 8, kTopk = 2, kSteps = 100, kRearrange = 25;
  const metro::PlacementRequest request{.num_replicas = 24, .num_gpus = 4};
  metro::Loads loads{.num_layers = kLayers, .num_experts = kExperts, .tokens = {}};
  loads.tokens.assign(std::size_t{kLayers} * kExperts, 1.0);
  std::mt19937 gate(0);  // stands for the model: experts as skewed as a router's
  std::discrete_distribution<int> expert({9, 7, 6, 5, 4, 4, 3, 3, 2, 2, 2, 1, 1, 1, 1, 1});

  std::vector<metro::Router> routers;
  std::vector<std::int32_t> topk_ids(std::size_t{kTokens} * kTopk), replica_ids(topk_ids.size());
  for (int step = 0; step < kSteps; ++step) {
    if (step % kRearrange == 0) {  // homes first; weights move between steps
      routers.clear();
      for (const auto& layer : metro::place(loads, request, "homed").layers) {
        routers.emplace_back(layer, "optimal");
      }
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      for (std::int32_t& id : topk_ids) {
        id = expert(gate);
        loads.tokens[static_cast<std::size_t>(layer * kExperts + id)] += 1;
      }
      routers[static_cast<std::size_t>(layer)].route({topk_ids, kTokens, kTopk}, replica_ids);
      // Here the engine sends token t to the GPUs of replica_ids[t * kTopk ...] and runs the
      // experts.
    }
  }
  std::cout << kSteps << " steps routed\n";
}
