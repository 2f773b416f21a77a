// SPDX-License-Identifier: Apache-2.0
// Places the replicas of a layer, and routes a batch of two tokens.
#include <cstdint>
#include <iostream>
#include <metro/error.hpp>
#include <metro/placer.hpp>
#include <metro/router.hpp>
#include <vector>

int main() try {
  const metro::Loads loads{.num_layers = 1, .num_experts = 4, .tokens = {40, 30, 20, 10}};
  const metro::Placement placement =
      metro::place(loads, {.num_replicas = 6, .num_gpus = 2}, "homed");
  metro::Router router(placement.layers[0], "optimal");  // allocates once

  const std::vector<std::int32_t> topk_ids = {0, 1, 0, 2};  // [2 tokens][top-2]
  std::vector<std::int32_t> replica_ids(topk_ids.size());
  router.route({.ids = topk_ids, .num_tokens = 2, .topk = 2}, replica_ids);

  for (const std::int32_t replica : replica_ids) std::cout << replica << ' ';
  std::cout << '\n';
} catch (const metro::Error& error) {
  std::cerr << error.what() << '\n';
  return static_cast<int>(error.code());
}
