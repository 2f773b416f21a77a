// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/bench_samples.hpp"

#include <algorithm>
#include <functional>
#include <string>

namespace metro::layer_bench {
namespace {

constexpr auto kExperts = static_cast<std::size_t>(Stage::kExperts);

}  // namespace

template <typename Value>
double BenchSamples::slowest(int batch, int repeat, Value value) const {
  double most = 0;
  for (int rank = 0; rank < ranks_; ++rank)
    most = std::max(most, std::invoke(value, at(batch, repeat, rank)));
  return most;
}

/// Of value(repeat).
template <typename Value>
double BenchSamples::median(Value value) const {
  std::vector<double> values;
  for (int repeat = 0; repeat < repeats_; ++repeat) values.push_back(value(repeat));
  const auto middle = values.begin() + repeats_ / 2;
  std::ranges::nth_element(values, middle);
  return *middle;
}

void BenchSamples::summarise(const BenchWork& work, double copy_gb_s, LayerBenchRow& row) const {
  std::vector<std::vector<double>> experts_us;
  ep::StageTimes stages{};
  row.layer_us = 0;
  row.exposed_routing_us = 0;
  for (int batch = 0; batch < batches_; ++batch) {
    const auto layer = [&](int repeat) { return slowest(batch, repeat, &BenchSample::layer_us); };
    row.layer_us += median(layer) / batches_;
    row.exposed_routing_us +=
        median([&](int repeat) {
          return layer(repeat) - slowest(batch, repeat, &BenchSample::replayed_us);
        }) /
        batches_;
    std::vector<double> by_rank;
    for (int rank = 0; rank < ranks_; ++rank) {
      by_rank.push_back(
          median([&](int repeat) { return at(batch, repeat, rank).stage_us[kExperts]; }));
    }
    const int busiest = static_cast<int>(std::ranges::max_element(by_rank) - by_rank.begin());
    for (std::size_t stage = 0; stage < kNumStages; ++stage) {
      stages[stage] +=
          median([&](int repeat) { return at(batch, repeat, busiest).stage_us[stage]; }) / batches_;
    }
    experts_us.push_back(std::move(by_rank));
  }
  for (const Stage stage : ep::kLayerStages) {
    row.stage_us.emplace_back(stage_name(stage), stages[static_cast<std::size_t>(stage)]);
  }
  add_experts(work, experts_us, copy_gb_s, row);
}

}  // namespace metro::layer_bench
