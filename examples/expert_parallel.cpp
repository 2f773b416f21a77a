// SPDX-License-Identifier: Apache-2.0
// Runs one expert-parallel MoE layer on four local ranks (threads) under two dispatches, and holds
// its output against a plain loop over every token's experts. Exits 1 when they differ.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "metro/ep/local_transport.hpp"
#include "metro/ep/moe_layer.hpp"
#include "metro/error.hpp"
#include "metro/loads.hpp"
#include "metro/placer.hpp"

namespace {

constexpr int kRanks = 4;
constexpr int kTokens = 6;  // a rank
constexpr int kHidden = 64;
constexpr int kWidth = 32;
constexpr int kExperts = 16;
constexpr int kTopk = 3;

std::vector<float> random_values(std::size_t count, unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// All experts of the layer, as a loader would hold them: fp32 arrays, and views of them.
class Experts final : public metro::ep::WeightSource {
 public:
  Experts() {
    for (unsigned e = 0; e < kExperts; ++e) {
      values_.push_back(random_values(3 * std::size_t{kHidden} * kWidth, e + 1, 0.1F));
    }
    for (const std::vector<float>& values : values_) {
      const float* down = values.data() + 2 * std::size_t{kHidden} * kWidth;
      views_.push_back({.gate_up = {.rows = 2 * kWidth, .cols = kHidden, .values = values.data()},
                        .down = {.rows = kHidden, .cols = kWidth, .values = down}});
    }
  }
  const metro::ep::ExpertWeights& weights(int /*slot*/, int expert) override {
    return views_[static_cast<std::size_t>(expert)];
  }

 private:
  std::vector<std::vector<float>> values_;
  std::vector<metro::ep::ExpertWeights> views_;
};

float dot(const float* a, const float* b, int count) {
  return std::inner_product(a, a + count, b, 0.0F);
}

/// The same layer in one place: softmax gate, the best experts, their outputs weighed and added.
std::vector<float> plain_layer(std::span<const float> x, const std::vector<float>& gate,
                               Experts& experts) {
  std::vector<float> out(x.size());
  for (std::size_t row = 0; row < x.size(); row += kHidden) {
    std::vector<float> scores(kExperts);
    float sum = 0;
    for (int e = 0; e < kExperts; ++e) {
      scores[static_cast<std::size_t>(e)] =
          std::exp(dot(&x[row], gate.data() + std::ptrdiff_t{e} * kHidden, kHidden));
      sum += scores[static_cast<std::size_t>(e)];
    }
    std::vector<int> order(kExperts);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater{},
                             [&](int e) { return scores[static_cast<std::size_t>(e)]; });
    for (int k = 0; k < kTopk; ++k) {
      const int expert = order[static_cast<std::size_t>(k)];
      const metro::ep::ExpertWeights& weights = experts.weights(0, expert);
      const auto* gate_up = static_cast<const float*>(weights.gate_up.values);
      const auto* down = static_cast<const float*>(weights.down.values);
      std::vector<float> inner(kWidth);
      for (int i = 0; i < kWidth; ++i) {
        const float g = dot(gate_up + std::ptrdiff_t{i} * kHidden, &x[row], kHidden);
        const float up = dot(gate_up + std::ptrdiff_t{kWidth + i} * kHidden, &x[row], kHidden);
        inner[static_cast<std::size_t>(i)] = g / (1 + std::exp(-g)) * up;
      }
      for (int h = 0; h < kHidden; ++h) {
        out[row + static_cast<std::size_t>(h)] +=
            scores[static_cast<std::size_t>(expert)] / sum *
            dot(down + std::ptrdiff_t{h} * kWidth, inner.data(), kWidth);
      }
    }
  }
  return out;
}

}  // namespace

int main() try {
  using namespace metro::ep;
  // Half as many replicas again as experts; every expert may be popular here.
  const metro::Loads loads{
      .num_layers = 1, .num_experts = kExperts, .tokens = std::vector<double>(kExperts, 1.0)};
  const auto placement =
      metro::place(loads, {.num_replicas = kExperts * 3 / 2, .num_gpus = kRanks}, "homed");

  Experts experts;
  const std::vector<float> gate = random_values(std::size_t{kExperts} * kHidden, 100, 0.1F);
  const std::vector<float> x = random_values(std::size_t{kRanks} * kTokens * kHidden, 200, 1.0F);
  const std::vector<float> expected = plain_layer(x, gate, experts);

  LayerShape shape{
      .hidden = kHidden, .intermediate = kWidth, .num_experts = kExperts, .topk = kTopk};
  shape.gate.normalise_weights = false;
  float worst = 0;
  for (const Dispatch dispatch : {Dispatch::kAllGather, Dispatch::kAllToAll}) {
    std::vector<float> out(x.size());
    run_local_ranks(kRanks, 30, [&](Transport& transport) {
      MoeLayer layer(shape, placement.layers.front(), {.policy = "optimal", .dispatch = dispatch},
                     {}, {.gate = gate}, experts, transport);
      constexpr std::size_t kOwn = std::size_t{kTokens} * kHidden;
      const std::size_t first = static_cast<std::size_t>(transport.rank()) * kOwn;
      layer.forward({.x = std::span(x).subspan(first, kOwn), .num_tokens = kTokens},
                    std::span(out).subspan(first, kOwn));
    });
    for (std::size_t i = 0; i < out.size(); ++i) {
      worst = std::max(worst, std::abs(out[i] - expected[i]));
    }
  }
  std::cout << kRanks << " ranks, " << kRanks * kTokens
            << " tokens: largest difference from a plain loop " << worst << '\n';
  return worst < 1e-5F ? 0 : 1;
} catch (const metro::Error& error) {
  std::cerr << error.what() << '\n';
  return static_cast<int>(error.code());
}
