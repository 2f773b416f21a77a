// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "metro/loads.hpp"
#include "metro/placer.hpp"
#include "sim/expert_table.hpp"
#include "sim/moe_layers.hpp"

namespace metro::sim {

/// Times the routed experts of a step, and rearranges their placement.
class ExpertTimes {
 public:
  virtual ~ExpertTimes() = default;
  ExpertTimes() = default;
  ExpertTimes(const ExpertTimes&) = delete;
  ExpertTimes& operator=(const ExpertTimes&) = delete;

  /// All MoE layers of step number `step`. Told to `observer` layer by layer where it is given,
  /// which asks for the step to be routed in full.
  virtual LayerSums of_step(const StepTokens& tokens, std::int64_t step,
                            const MoeLayers::Observer* observer) = 0;

  /// What the router that kAutoPolicy chooses for such a step adds, beyond that of its first
  /// choice.
  virtual double router_us(const StepTokens& tokens) = 0;

  /// Places experts anew from the loads since the last time; returns the replica slots, over all
  /// layers of the model, that the busiest GPU has to fetch.
  virtual double rearrange() = 0;
};

/// How placements are made, and made again.
struct PlacementRule {
  PlacementRequest request;
  std::string algorithm;
};

/// Routes every layer of every step.
std::unique_ptr<ExpertTimes> make_full_times(const MoeSetup& setup, const PlacementRule& rule,
                                             bool collect_loads);

/// Draws from a table. Its batches all come from one distribution, so that a new placement serves
/// them as the old one does: only the cost of the change counts.
std::unique_ptr<ExpertTimes> make_table_times(std::shared_ptr<ExpertTable> table,
                                              const MoeSetup& setup, const PlacementRule& rule);

}  // namespace metro::sim
