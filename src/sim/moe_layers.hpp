// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "metro/cost.hpp"
#include "metro/placement.hpp"
#include "sim/batch_drawer.hpp"
#include "sim/layer_experts.hpp"

namespace metro::sim {

/// A policy that `auto` may choose, and what its router adds to a step beyond that of the first.
struct PolicyChoice {
  std::string policy;
  double router_us = 0;
};

/// How the routed experts of a deployment are run.
struct MoeSetup {
  std::shared_ptr<const RoutingPool> pool;
  std::shared_ptr<const Placement> placement;  ///< of the pool's layers; null: moe-TP
  std::shared_ptr<const CostModel> cost;
  std::string policy;                 ///< of steps that only decode
  std::string prefill_policy;         ///< of steps with prompt tokens
  std::vector<PolicyChoice> choices;  ///< of steps whose policy is kAutoPolicy
  int num_gpus = 0;                   ///< that share out the experts
  int shards = 1;                     ///< GPUs that share each replica
  int num_layers = 0;                 ///< MoE layers of the model
  int draft_tokens = 0;
  std::uint64_t seed = 0;
};

/// Sums over layers of one batch.
struct LayerSums {
  double us = 0;
  double max_activated = 0;

  LayerSums& operator+=(const LayerSums& other) {
    us += other.us;
    max_activated += other.max_activated;
    return *this;
  }
};

/// All MoE layers of a model: draws a step's tokens, routes them layer by layer, and adds up the
/// slowest GPU of each layer. One thread at a time.
///
/// A model with more layers than the pool repeats the pool's; each repetition, a *block*, draws its
/// tokens afresh. The last block may be cut short.
class MoeLayers {
 public:
  /// Told of every routed layer: its number in the model, its batch, each GPU's work.
  using Observer = std::function<void(int layer, TopkView batch, const LayerExperts& experts)>;

  explicit MoeLayers(const MoeSetup& setup);

  /// Policies that such steps may be routed by: 1, unless theirs is kAutoPolicy.
  [[nodiscard]] std::size_t num_choices(const StepTokens& tokens) const noexcept;
  /// What the router of that choice adds to such a step, beyond that of the first.
  [[nodiscard]] double router_us(const StepTokens& tokens, std::size_t choice) const noexcept;

  /// All layers of the model, one step, by one of the choices.
  LayerSums route_step(const StepTokens& tokens, std::uint64_t key, std::size_t choice,
                       const Observer* observer);

  /// One block, and what its layers up to the cut of the last one sum to.
  struct Block {
    LayerSums whole;
    LayerSums last;
  };
  Block route_block(const StepTokens& tokens, std::uint64_t key, std::size_t choice);

  [[nodiscard]] int num_blocks() const noexcept { return num_blocks_; }

 private:
  /// The layers under one policy.
  struct Choice {
    std::vector<LayerExperts> layers;
    double router_us = 0;
  };
  static std::vector<Choice> make_choices(const MoeSetup& setup, const std::string& policy);
  [[nodiscard]] const std::vector<Choice>& choices_for(const StepTokens& tokens) const noexcept;
  std::vector<LayerExperts>& experts_for(const StepTokens& tokens, std::size_t choice) noexcept;

  std::shared_ptr<const CostModel> cost_;
  BatchDrawer drawer_;
  int num_blocks_;
  int last_layers_;  // of the last block
  std::vector<Choice> decode_;
  std::vector<Choice> prefill_;  // empty: as decode_
};

}  // namespace metro::sim
