// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/rng.hpp"

namespace metro {

/// Draws distinct experts of one layer with probability proportional to
/// weight[expert] * factor[group of the expert].
///
/// Two levels of cumulative sums, a group and then an expert in it, so that new factors for every
/// token cost one pass over the groups, not over the experts. Experts are numbered by slot: group g
/// holds slots [g * E / groups, (g + 1) * E / groups).
class ExpertSampler {
 public:
  ExpertSampler(int num_experts, int num_groups);

  /// Weights by slot, finite and > 0; valid until the next call.
  void set_weights(std::span<const double> weights);

  /// Writes `slots.size()` distinct slots, at most num_experts, in the order drawn.
  void sample(std::span<const float> factors, Rng& rng, std::span<std::uint16_t> slots);

 private:
  std::uint16_t draw(double x) const;
  std::uint16_t draw_rest(std::span<const float> factors, Rng& rng) const;

  std::vector<std::uint32_t> group_begin_;  // [groups + 1]
  std::vector<double> within_;              // [experts] cumulative inside the group
  std::vector<double> weights_;             // [experts]
  std::vector<double> cumulative_;          // [groups] of weight * factor, for the current token
  std::vector<double> factors_;             // [groups]
  std::vector<std::uint64_t> taken_;        // [experts] stamp of the token that took it
  std::uint64_t stamp_ = 0;
};

}  // namespace metro
