// SPDX-License-Identifier: Apache-2.0
#include "sim/moe_layers.hpp"

#include <algorithm>
#include <utility>

#include "core/rng.hpp"
#include "metro/expert_cost.hpp"
#include "metro/simulate.hpp"

namespace metro::sim {
namespace {

/// What `hybrid` routes by: the model's own expert times. A measured phi may dip between two sizes
/// by noise; routing takes it as level there.
std::shared_ptr<const ExpertCost> expert_cost(const CostModel& cost) {
  constexpr std::int64_t kTableSize = 2048;
  ExpertTimes times;
  times.base_us = cost.expert_base_us();
  for (std::int64_t n = 1; n < kTableSize; ++n) {
    times.phi_us.push_back(std::max(times.phi_us.back(), cost.phi_us(n)));
  }
  times.beyond_us = std::max(0.0, cost.phi_us(kTableSize) - cost.phi_us(kTableSize - 1));
  return std::make_shared<const ExpertCost>(std::move(times));
}

std::vector<LayerExperts> make_layers(const MoeSetup& setup, const std::string& policy) {
  std::vector<LayerExperts> layers;
  const int count = setup.pool->num_layers();
  const bool priced = setup.placement != nullptr && require_policy(policy).uses_cost;
  const auto cost = priced ? expert_cost(*setup.cost) : nullptr;
  layers.reserve(static_cast<std::size_t>(count));
  for (int layer = 0; layer < count; ++layer) {
    if (setup.placement == nullptr) {
      layers.emplace_back(setup.pool->num_experts(), setup.num_gpus, *setup.cost);
    } else {
      layers.emplace_back(setup.placement->layers[static_cast<std::size_t>(layer)], policy,
                          RouteOptions{.seed = setup.seed, .layer = layer, .cost = cost},
                          *setup.cost, setup.shards);
    }
  }
  return layers;
}

}  // namespace

std::vector<MoeLayers::Choice> MoeLayers::make_choices(const MoeSetup& setup,
                                                       const std::string& policy) {
  std::vector<Choice> choices;
  if (policy != kAutoPolicy || setup.placement == nullptr) {
    choices.push_back({make_layers(setup, policy), 0});
    return choices;
  }
  for (const PolicyChoice& choice : setup.choices) {
    choices.push_back({make_layers(setup, choice.policy), choice.router_us});
  }
  return choices;
}

MoeLayers::MoeLayers(const MoeSetup& setup)
    : cost_(setup.cost),
      drawer_(setup.pool, setup.draft_tokens),
      num_blocks_((setup.num_layers - 1) / setup.pool->num_layers() + 1),
      last_layers_(setup.num_layers - (num_blocks_ - 1) * setup.pool->num_layers()),
      decode_(make_choices(setup, setup.policy)) {
  const bool same = setup.placement == nullptr || setup.policy == setup.prefill_policy;
  if (!same) prefill_ = make_choices(setup, setup.prefill_policy);
}

const std::vector<MoeLayers::Choice>& MoeLayers::choices_for(
    const StepTokens& tokens) const noexcept {
  return tokens.prefill_tokens > 0 && !prefill_.empty() ? prefill_ : decode_;
}

std::vector<LayerExperts>& MoeLayers::experts_for(const StepTokens& tokens,
                                                  std::size_t choice) noexcept {
  return (tokens.prefill_tokens > 0 && !prefill_.empty() ? prefill_ : decode_)[choice].layers;
}

std::size_t MoeLayers::num_choices(const StepTokens& tokens) const noexcept {
  return choices_for(tokens).size();
}

double MoeLayers::router_us(const StepTokens& tokens, std::size_t choice) const noexcept {
  return choices_for(tokens)[choice].router_us;
}

LayerSums MoeLayers::route_step(const StepTokens& tokens, std::uint64_t key, std::size_t choice,
                                const Observer* observer) {
  std::vector<LayerExperts>& experts = experts_for(tokens, choice);
  const auto width = static_cast<int>(experts.size());
  LayerSums sums;
  for (int block = 0; block < num_blocks_; ++block) {
    drawer_.draw(tokens, mix64(key) + static_cast<std::uint64_t>(block));
    const int layers = block + 1 < num_blocks_ ? width : last_layers_;
    for (int layer = 0; layer < layers; ++layer) {
      LayerExperts& layer_experts = experts[static_cast<std::size_t>(layer)];
      const TopkView batch = drawer_.gather(layer);
      const LayerTime time = layer_experts.route(batch);
      sums += {time.us, time.max_activated};
      if (observer != nullptr) (*observer)(block* width + layer, batch, layer_experts);
    }
  }
  return sums;
}

MoeLayers::Block MoeLayers::route_block(const StepTokens& tokens, std::uint64_t key,
                                        std::size_t choice) {
  std::vector<LayerExperts>& experts = experts_for(tokens, choice);
  drawer_.draw(tokens, mix64(key));
  Block block;
  for (int layer = 0; layer < static_cast<int>(experts.size()); ++layer) {
    const LayerTime time = experts[static_cast<std::size_t>(layer)].route(drawer_.gather(layer));
    block.whole += {time.us, time.max_activated};
    if (layer < last_layers_) block.last += {time.us, time.max_activated};
  }
  return block;
}

}  // namespace metro::sim
