// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "layer_bench/random_weights.hpp"
#include "metro/ep/layer_config.hpp"

namespace metro::test {

/// A MoE layer as one would write it down: one place, double precision, no routing, no batching.
/// Only the numbers of the random weights are shared with the layer under test.
class MoeReference {
 public:
  MoeReference(ep::LayerShape shape, std::uint64_t seed) : shape_(shape), seed_(seed) {}

  /// Output of one token; `given` replaces the gate's choice, -1 = masked.
  [[nodiscard]] std::vector<double> output(const float* x, const std::int32_t* given) const {
    const std::vector<double> in(x, x + shape_.hidden);
    std::vector<double> out(in.size());
    const auto experts = static_cast<std::uint32_t>(shape_.num_experts);
    for (const auto& [expert, weight] : choose(in, given)) {
      add(mlp(in, static_cast<std::uint32_t>(expert), shape_.intermediate), weight, out);
    }
    if (shape_.shared_intermediate > 0) {
      add(mlp(in, experts + 1, shape_.shared_intermediate), 1.0, out);
    }
    return out;
  }

  /// (expert, weight), best first.
  [[nodiscard]] std::vector<std::pair<int, double>> choose(const std::vector<double>& x,
                                                           const std::int32_t* given) const {
    const std::vector<double> logits =
        times(layer_bench::MatrixKind::kRouter, static_cast<std::uint32_t>(shape_.num_experts), x,
              0, shape_.num_experts);
    const std::vector<double> scores = scores_of(logits);
    std::vector<std::pair<int, double>> chosen;
    if (given != nullptr) {
      for (int k = 0; k < shape_.topk; ++k) {
        if (given[k] >= 0)
          chosen.emplace_back(given[k], scores[static_cast<std::size_t>(given[k])]);
      }
    } else {
      for (int e = 0; e < shape_.num_experts; ++e) {
        if (in_best_groups(scores, e)) chosen.emplace_back(e, scores[static_cast<std::size_t>(e)]);
      }
      std::ranges::stable_sort(chosen, [](auto a, auto b) { return a.second > b.second; });
      chosen.resize(static_cast<std::size_t>(shape_.topk));
    }
    double sum = 0;
    for (const auto& entry : chosen) sum += entry.second;
    for (auto& entry : chosen) {
      if (shape_.gate.normalise_weights && sum > 0) entry.second /= sum;
      entry.second *= shape_.gate.weight_scale;
    }
    return chosen;
  }

 private:
  static void add(const std::vector<double>& from, double weight, std::vector<double>& to) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += weight * from[i];
  }

  [[nodiscard]] std::vector<double> scores_of(const std::vector<double>& logits) const {
    std::vector<double> scores;
    double sum = 0;
    for (const double z : logits) {
      const bool is_sigmoid = shape_.gate.score == GateScore::kSigmoid;
      scores.push_back(is_sigmoid ? 1 / (1 + std::exp(-z)) : std::exp(z));
      sum += is_sigmoid ? 0 : scores.back();
    }
    if (sum > 0) {
      for (double& score : scores) score /= sum;
    }
    return scores;
  }

  /// Fewer than topk_groups groups score above the expert's.
  [[nodiscard]] bool in_best_groups(const std::vector<double>& scores, int expert) const {
    const int size = shape_.num_experts / shape_.gate.num_groups;
    std::vector<double> of_group;
    for (int g = 0; g < shape_.gate.num_groups; ++g) {
      std::vector<double> group(scores.begin() + g * size, scores.begin() + (g + 1) * size);
      std::ranges::sort(group, std::greater<>());
      const bool two = shape_.gate.score == GateScore::kSigmoid && size > 1;
      of_group.push_back(two ? group[0] + group[1] : group[0]);
    }
    const auto own = static_cast<std::size_t>(expert / size);
    int better = 0;
    for (std::size_t g = 0; g < of_group.size(); ++g) {
      better += of_group[g] > of_group[own] || (of_group[g] == of_group[own] && g < own) ? 1 : 0;
    }
    return better < shape_.gate.topk_groups;
  }

  [[nodiscard]] std::vector<double> mlp(const std::vector<double>& x, std::uint32_t expert,
                                        int width) const {
    const auto gate = times(layer_bench::MatrixKind::kGateUp, expert, x, 0, width);
    const auto up = times(layer_bench::MatrixKind::kGateUp, expert, x, width, width);
    std::vector<double> inner;
    for (std::size_t i = 0; i < gate.size(); ++i) {
      inner.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
    }
    return times(layer_bench::MatrixKind::kDown, expert, inner, 0, shape_.hidden);
  }

  /// Rows [first, first + count) of a random matrix, times x.
  [[nodiscard]] std::vector<double> times(layer_bench::MatrixKind kind, std::uint32_t expert,
                                          const std::vector<double>& x, int first,
                                          int count) const {
    const std::uint64_t key = layer_bench::weight_key(seed_, expert, kind);
    const double scale = std::sqrt(3.0 / static_cast<double>(x.size()));
    std::vector<double> y;
    for (int row = first; row < first + count; ++row) {
      double sum = 0;
      for (std::size_t col = 0; col < x.size(); ++col) {
        sum += scale *
               layer_bench::unit_weight(key, static_cast<std::size_t>(row) * x.size() + col) *
               x[col];
      }
      y.push_back(sum);
    }
    return y;
  }

  ep::LayerShape shape_;
  std::uint64_t seed_;
};

}  // namespace metro::test
