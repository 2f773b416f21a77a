// SPDX-License-Identifier: Apache-2.0
// 64 calls of `optimal` for callgrind to count: count_optimal TOKENS (tools/check_instructions.sh).
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "core/rng.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace {

constexpr int kExperts = 256;
constexpr int kTopk = 8;

/// Ids with a linear skew: the minimum of two draws.
std::vector<std::int32_t> draw_ids(metro::Rng& rng, int num_tokens) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < num_tokens * kTopk; ++i) {
    ids.push_back(static_cast<std::int32_t>(std::min(rng.below(kExperts), rng.below(kExperts))));
  }
  return ids;
}

}  // namespace

int main(int argc, char** argv) {
  const int num_tokens = argc > 1 ? std::atoi(argv[1]) : 256;
  metro::Loads loads{1, kExperts, {}};
  for (int e = 0; e < kExperts; ++e) loads.tokens.push_back(2.0 * (kExperts - e) - 1);
  const metro::Placement placement =
      metro::place(loads, {.num_replicas = 384, .num_gpus = 16}, "homed");
  metro::Router router(placement.layers[0], "optimal");
  metro::Rng rng(0);
  for (int call = 0; call < 64; ++call) {
    std::vector<std::int32_t> ids = draw_ids(rng, num_tokens);
    router.route({ids, num_tokens, kTopk}, ids);
  }
}
