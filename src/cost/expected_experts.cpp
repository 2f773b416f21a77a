// SPDX-License-Identifier: Apache-2.0
#include "cost/expected_experts.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace metro::cost {
namespace {

/// Quantile of the normal distribution, by bisection.
double normal_quantile(double p) {
  double low = -8;
  double high = 8;
  for (int i = 0; i < 40; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < p ? low : high) = middle;
  }
  return (low + high) / 2;
}

/// Expected maximum of n standard normals (Blom's approximation of the order statistic).
double expected_maximum(double n) { return n <= 1 ? 0 : normal_quantile((n - 0.375) / (n + 0.25)); }

}  // namespace

ExpectedExperts::ExpectedExperts(const ModelConfig& model, const Deployment& deployment,
                                 double sigma)
    : chance_(static_cast<std::size_t>(model.num_experts)),
      gpus_(deployment.tensor_sharded_experts ? 1 : deployment.expert_gpus()) {
  const auto experts = static_cast<double>(chance_.size());
  for (std::size_t e = 0; 2 * e < chance_.size(); ++e) {
    const double z = normal_quantile((static_cast<double>(e) + 0.5) / experts);
    chance_[e] = std::exp(sigma * z);
    chance_[chance_.size() - 1 - e] = std::exp(-sigma * z);
  }
  // A token takes an expert once at most: what the cap takes from the popular goes to the others.
  for (int round = 0; round < 8; ++round) {
    const double sum = std::accumulate(chance_.begin(), chance_.end(), 0.0);
    for (double& c : chance_) c = std::min(1.0, c * model.topk / sum);
  }
}

double ExpectedExperts::activated(double tokens) const noexcept {
  double sum = 0;
  for (const double c : chance_) sum += 1 - std::pow(1 - c, tokens);
  return sum;
}

double ExpectedExperts::layer_us(const CostModel& cost, double tokens) const noexcept {
  if (!(tokens > 0)) return 0;
  double sum = 0;
  double sum_of_squares = 0;
  double luck = 0;  // variance of which experts are active
  for (const double c : chance_) {
    const double active = 1 - std::pow(1 - c, tokens);
    if (!(active > 0)) continue;
    const double us = cost.expected_phi_us(tokens * c / active);
    sum += active * us;
    sum_of_squares += active * us * active * us;
    luck += active * (1 - active) * us * us;
  }
  const auto experts = static_cast<double>(chance_.size());
  const double variance = std::max(0.0, sum_of_squares / experts - sum / experts * sum / experts);
  // Experts of a GPU are drawn without replacement.
  const double spread = variance * experts / gpus_ * (1 - 1 / gpus_) + luck / gpus_;
  return cost.expert_base_us() +
         std::min(sum, sum / gpus_ + expected_maximum(gpus_) * std::sqrt(spread));
}

}  // namespace metro::cost
