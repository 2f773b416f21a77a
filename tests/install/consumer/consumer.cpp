// SPDX-License-Identifier: Apache-2.0
// Links one function of every layer of the installed library; exits 1 when an answer is wrong.
#include <cstdint>
#include <iostream>
#include <metro/error.hpp>
#include <metro/io.hpp>
#include <metro/loads.hpp>
#include <metro/metrics.hpp>
#include <metro/placement.hpp>
#include <metro/placer.hpp>
#include <metro/router.hpp>
#include <metro/topk.hpp>
#include <string>
#include <vector>

int main() {
  const metro::Loads loads{.num_layers = 1, .num_experts = 4, .tokens = {4, 3, 2, 1}};
  const auto placement = metro::place(loads, {.num_replicas = 6, .num_gpus = 2}, "homed");
  const metro::TopkBatch batch{.ids = {0, 1, 2, 3}, .num_tokens = 2, .topk = 2};

  std::vector<std::int32_t> replica_ids(batch.ids.size());
  metro::Router router(placement.layers.front(), "optimal");
  router.route(batch.view(), replica_ids);
  const int max_activated =
      metro::MetricsCounter(placement.layers.front()).count(replica_ids).max_activated;
  if (max_activated != 2) {
    std::cerr << "four experts on two GPUs: max activated is " << max_activated << ", not 2\n";
    return 1;
  }

  if (metro::io::format_placement(placement).find("metro-placement") == std::string::npos) {
    std::cerr << "format_placement does not name the format\n";
    return 1;
  }

  try {
    (void)metro::io::read_placement("no-such-file.json");
  } catch (const metro::Error& error) {
    return error.code() == metro::ErrorCode::kInput ? 0 : 1;
  }
  std::cerr << "a missing file went unnoticed\n";
  return 1;
}
