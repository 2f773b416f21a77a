// SPDX-License-Identifier: Apache-2.0
#include "trace/expert_sampler.hpp"

#include <algorithm>

namespace metro {

ExpertSampler::ExpertSampler(int num_experts, int num_groups)
    : within_(static_cast<std::size_t>(num_experts)),
      weights_(within_.size()),
      cumulative_(static_cast<std::size_t>(num_groups)),
      factors_(cumulative_.size()),
      taken_(within_.size(), 0) {
  for (std::size_t g = 0; g <= cumulative_.size(); ++g) {
    group_begin_.push_back(static_cast<std::uint32_t>(g * within_.size() / cumulative_.size()));
  }
}

void ExpertSampler::set_weights(std::span<const double> weights) {
  std::ranges::copy(weights, weights_.begin());
  for (std::size_t g = 0; g < cumulative_.size(); ++g) {
    double sum = 0;
    for (std::uint32_t slot = group_begin_[g]; slot < group_begin_[g + 1]; ++slot) {
      sum += weights_[slot];
      within_[slot] = sum;
    }
  }
}

std::uint16_t ExpertSampler::draw(double x) const {
  const auto last_group = cumulative_.size() - 1;
  std::size_t g = 0;
  for (std::size_t i = 0; i < last_group; ++i)
    g += std::size_t{cumulative_[i] <= x};  // no branches
  const double in_group = (x - (g == 0 ? 0 : cumulative_[g - 1])) / factors_[g];
  // Without the last slot: it stands when rounding leaves a remainder.
  const auto begin = within_.begin() + group_begin_[g];
  const auto last = within_.begin() + group_begin_[g + 1] - 1;
  return static_cast<std::uint16_t>(std::upper_bound(begin, last, in_group) - within_.begin());
}

/// The same distribution, given what is taken, by one pass over all slots.
std::uint16_t ExpertSampler::draw_rest(std::span<const float> factors, Rng& rng) const {
  const auto for_each_free = [&](auto&& visit) {
    for (std::size_t g = 0; g < cumulative_.size(); ++g) {
      for (std::uint32_t slot = group_begin_[g]; slot < group_begin_[g + 1]; ++slot) {
        if (taken_[slot] != stamp_) visit(slot, weights_[slot] * static_cast<double>(factors[g]));
      }
    }
  };
  double total = 0;
  for_each_free([&](std::uint32_t, double weight) { total += weight; });
  double left = rng.uniform() * total;
  std::uint32_t chosen = 0;
  bool found = false;
  for_each_free([&](std::uint32_t slot, double weight) {
    if (found) return;
    chosen = slot;  // the last free slot stands when rounding leaves a remainder
    found = left < weight;
    left -= weight;
  });
  return static_cast<std::uint16_t>(chosen);
}

void ExpertSampler::sample(std::span<const float> factors, Rng& rng,
                           std::span<std::uint16_t> slots) {
  constexpr int kMaxRepeats = 16;  // then a pass over all slots is cheaper
  double total = 0;
  for (std::size_t g = 0; g < cumulative_.size(); ++g) {
    factors_[g] = static_cast<double>(factors[g]);
    total += within_[group_begin_[g + 1] - 1] * factors_[g];
    cumulative_[g] = total;
  }
  ++stamp_;
  int repeats = 0;
  for (std::uint16_t& slot : slots) {
    slot = draw(rng.uniform() * total);
    while (taken_[slot] == stamp_) {
      slot = ++repeats <= kMaxRepeats ? draw(rng.uniform() * total) : draw_rest(factors, rng);
    }
    taken_[slot] = stamp_;
  }
}

}  // namespace metro
