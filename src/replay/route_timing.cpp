// SPDX-License-Identifier: Apache-2.0
#include "replay/route_timing.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <numeric>

#include "core/rng.hpp"

namespace metro {
namespace {

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

void time_routers(std::vector<Contender>& contenders, const std::vector<TopkBatch>& batches,
                  int rounds, std::uint64_t seed) {
  using Clock = std::chrono::steady_clock;
  std::size_t widest = 0;
  for (const TopkBatch& batch : batches) widest = std::max(widest, batch.ids.size());
  std::vector<std::int32_t> replica_ids(widest);
  std::vector<std::vector<double>> samples(contenders.size());
  std::vector<std::size_t> turns(contenders.size());
  std::iota(turns.begin(), turns.end(), std::size_t{0});
  std::vector<std::size_t> order(batches.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  Rng rng(seed);
  for (int round = -1; round < rounds; ++round) {
    rng.shuffle(turns);
    for (const std::size_t turn : turns) {
      rng.shuffle(order);
      for (const std::size_t b : order) {
        const TopkView topk = batches[b].view();
        const std::span out = std::span(replica_ids).first(topk.ids.size());
        const auto begin = Clock::now();
        contenders[turn].router->route(topk, out);
        const std::chrono::duration<double, std::nano> taken = Clock::now() - begin;
        if (round >= 0) samples[turn].push_back(taken.count());
      }
    }
  }
  for (std::size_t i = 0; i < contenders.size(); ++i) contenders[i].median_ns = median(samples[i]);
}

}  // namespace metro
