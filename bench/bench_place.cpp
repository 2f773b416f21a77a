// SPDX-License-Identifier: Apache-2.0
// Time of placing all layers of a model: algorithms, and the shares that `place` adds, apart.
#include <benchmark/benchmark.h>

#include <cmath>
#include <string>

#include "core/rng.hpp"
#include "metro/homes.hpp"
#include "metro/placer.hpp"

namespace {

/// Lognormal popularity with sigma 0.8, as DeepSeek-V3's layers have it.
metro::Loads lognormal_loads(int num_layers, int num_experts) {
  metro::Loads loads{num_layers, num_experts, {}};
  metro::Rng rng(1);
  for (int i = 0; i < num_layers * num_experts; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - rng.uniform()));
    const double normal = radius * std::cos(6.283185307179586 * rng.uniform());
    loads.tokens.push_back(std::floor(1000 * std::exp(0.8 * normal)));
  }
  return loads;
}

constexpr int kLayers = 58;
constexpr metro::PlacementRequest kRequest{.num_replicas = 320, .num_gpus = 32};

void place_all_layers(benchmark::State& state, const metro::PlacementAlgorithm& algorithm) {
  const metro::Loads loads = lognormal_loads(kLayers, 256);
  for (auto _ : state) {
    for (int i = 0; i < kLayers; ++i) {
      benchmark::DoNotOptimize(algorithm.place_layer(loads.layer(i), kRequest));
    }
  }
}

void place_with_shares(benchmark::State& state, const metro::PlacementAlgorithm& algorithm) {
  const metro::Loads loads = lognormal_loads(kLayers, 256);
  for (auto _ : state) benchmark::DoNotOptimize(metro::place(loads, kRequest, algorithm.name));
}

/// One layer's homes, in turn for all layers: the fixed rule, and with the load searched too.
void find_homes(benchmark::State& state, bool for_load) {
  const metro::Loads loads = lognormal_loads(kLayers, 256);
  const int num_gpus = static_cast<int>(state.range(0));
  metro::Placement placement =
      metro::place(loads, {.num_replicas = 384, .num_gpus = num_gpus}, "eplb");
  for (metro::LayerPlacement& layer : placement.layers) layer.home.clear();
  int i = 0;
  for (auto _ : state) {
    const metro::LayerPlacement& layer = placement.layers[static_cast<std::size_t>(i)];
    benchmark::DoNotOptimize(for_load ? metro::solve_homes(layer, loads.layer(i))
                                      : metro::find_homes(layer));
    i = (i + 1) % kLayers;
  }
}

}  // namespace

int main(int argc, char** argv) {
  for (const metro::PlacementAlgorithm& algorithm : metro::placement_algorithms()) {
    const std::string suffix = std::string(algorithm.name) + "/58x256_to_320_on_32_gpus";
    benchmark::RegisterBenchmark(("layers/" + suffix).c_str(), place_all_layers, algorithm)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("place/" + suffix).c_str(), place_with_shares, algorithm)
        ->Unit(benchmark::kMillisecond);
  }
  for (const bool for_load : {false, true}) {
    benchmark::RegisterBenchmark(for_load ? "solve_homes/256_in_384_on" : "homes/256_in_384_on",
                                 find_homes, for_load)
        ->Arg(16)
        ->Arg(64)
        ->Unit(benchmark::kMicrosecond);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
