// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ep/matmul.hpp"
#include "metro/ep/layer_config.hpp"

namespace metro::ep {

/// The experts of each token, best first, and what their outputs are multiplied by.
struct GateOutput {
  std::vector<std::int32_t> expert_ids;  ///< [tokens][topk]; -1: none
  std::vector<float> weights;            ///< [tokens][topk]; 0 where the id is -1
};

/// Chooses `ids.size()` experts for one token from its logits, ties to the lowest id.
///
/// Softmax: the highest logits; with groups only from those whose best logit is highest. Sigmoid
/// (DeepSeek-V3, without its load-balancing bias): from the groups whose two best scores sum
/// highest. NaN counts as the lowest logit.
class TopkChooser {
 public:
  explicit TopkChooser(const LayerShape& shape);

  void choose(std::span<const float> logits, std::span<std::int32_t> ids, std::span<float> weights);
  /// The weights that the gate gives to experts chosen elsewhere, a trace's; ids that are no expert
  /// get 0.
  void weigh(std::span<const float> logits, std::span<const std::int32_t> ids,
             std::span<float> weights);

 private:
  void score(std::span<const float> logits);
  void choose_groups();
  void set_weights(std::span<const std::int32_t> ids, std::span<float> weights) const;

  LayerShape shape_;
  std::vector<float> logits_;         // [experts] finite
  std::vector<float> scores_;         // [experts] softmax or sigmoid of the logits
  std::vector<std::int32_t> groups_;  // the chosen ones first
  std::vector<float> group_scores_;
  std::vector<std::int32_t> order_;
};

/// The gate of a layer: fp32 logits, then top-k.
class Gate {
 public:
  /// `weights` is [num_experts][hidden], and outlives the gate.
  Gate(const LayerShape& shape, std::span<const float> weights);

  /// `x` is [num_tokens][hidden]. Where `given_ids` is not empty the gate only weighs those.
  /// The reference stays valid until the next call.
  const GateOutput& run(std::span<const float> x, int num_tokens,
                        std::span<const std::int32_t> given_ids = {});

 private:
  LayerShape shape_;
  std::span<const float> weights_;  // [experts][hidden]
  std::unique_ptr<Matmul> matmul_;
  TopkChooser chooser_;
  std::vector<float> logits_;  // [tokens][experts]
  GateOutput output_;
};

}  // namespace metro::ep
