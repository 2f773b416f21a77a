// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "metro/trace_generator.hpp"

namespace metro {
namespace {

/// Spread of log load, by layer, and how much wider it is below the median.
struct Popularity {
  double min;
  double max;
  double cold_stretch = 1;
};

/// How tokens hang together: the spreads and the correlation of RouterModel.
struct Cohesion {
  double topic;
  double drift;
  double correlation;
  double whim;
};

RouterProfile profile(std::string_view name, std::string_view summary, int experts, int topk,
                      int layers, int groups, Popularity popularity, Cohesion cohesion) {
  RouterModel model;
  model.name = name;
  model.num_experts = experts;
  model.topk = topk;
  model.num_layers = layers;
  model.num_groups = groups;
  model.popularity_spread_min = popularity.min;
  model.popularity_spread_max = popularity.max;
  model.cold_stretch = popularity.cold_stretch;
  model.topic_spread = cohesion.topic;
  model.drift_spread = cohesion.drift;
  model.drift_correlation = cohesion.correlation;
  model.whim_spread = cohesion.whim;
  return {name, summary, std::move(model)};
}

// Popularity: the published spread and load skew of the family, for gpt-oss and DeepSeek-V2-Lite
// the activated fractions too. Cohesion: matched to 1.5x sharing within a sequence, 1.45x between
// adjacent tokens and a lift of 4.6; the fewer experts, the more they compete for a token's places
// and the larger the spreads must be. docs/trace-generator.md lists the figures and what stands
// behind each.
constexpr Popularity kDeepSeekV3{0.52, 0.9};
constexpr Popularity kQwen3{0.6, 1.2};
constexpr Popularity kGptOss{0.33, 0.75, 2.8};
constexpr Popularity kDeepSeekV2{0.35, 0.65, 1.3};

}  // namespace

std::span<const RouterProfile> router_profiles() {
  static const std::array profiles = {
      profile("deepseek-v3", "DeepSeek-V3, R1: 256 experts, top-8, 58 layers", 256, 8, 58, 32,
              kDeepSeekV3, {0.82, 1.14, 0.85, 1.6}),
      profile("kimi-k2", "Kimi-K2: 384 experts, top-8, 60 layers", 384, 8, 60, 32, kDeepSeekV3,
              {0.77, 1.12, 0.85, 1.6}),
      profile("qwen3-235b", "Qwen3-235B-A22B: 128 experts, top-8, 94 layers", 128, 8, 94, 32,
              kQwen3, {1.2, 1.6, 0.85, 1.7}),
      profile("qwen3-30b", "Qwen3-30B-A3B: 128 experts, top-8, 48 layers", 128, 8, 48, 32, kQwen3,
              {1.2, 1.6, 0.85, 1.7}),
      profile("gpt-oss-120b", "gpt-oss-120b: 128 experts, top-4, 36 layers", 128, 4, 36, 32,
              kGptOss, {0.83, 1.2, 0.85, 1.7}),
      profile("gpt-oss-20b", "gpt-oss-20b: 32 experts, top-4, 24 layers", 32, 4, 24, 8, kGptOss,
              {1.6, 1.95, 0.85, 2.2}),
      profile("deepseek-v2-lite", "DeepSeek-V2-Lite: 64 experts, top-6, 26 layers", 64, 6, 26, 16,
              kDeepSeekV2, {1.15, 1.65, 0.85, 2.0}),
      profile("uniform", "a control: every expert alike, every token alone", 256, 8, 58, 1, {0, 0},
              {0, 0, 0, 0}),
  };
  return profiles;
}

const RouterProfile* find_router_profile(std::string_view name) {
  const auto profiles = router_profiles();
  const auto found = std::ranges::find(profiles, name, &RouterProfile::name);
  return found == profiles.end() ? nullptr : &*found;
}

}  // namespace metro
