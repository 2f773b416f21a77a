// SPDX-License-Identifier: Apache-2.0
#include "ep/gate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace metro::ep {
namespace {

/// Moves the `count` best to the front, best first, ties to the lowest index.
void pick_best(std::vector<std::int32_t>& order, std::size_t count, const std::vector<float>& of) {
  const auto better = [&](std::int32_t a, std::int32_t b) {
    const float x = of[static_cast<std::size_t>(a)];
    const float y = of[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    better);
}

}  // namespace

TopkChooser::TopkChooser(const LayerShape& shape)
    : shape_(shape),
      logits_(static_cast<std::size_t>(shape.num_experts)),
      scores_(logits_.size()) {}

void TopkChooser::score(std::span<const float> logits) {
  using Limits = std::numeric_limits<float>;
  std::ranges::transform(logits, logits_.begin(), [](float z) {
    return std::isnan(z) ? Limits::lowest() : std::clamp(z, Limits::lowest(), Limits::max());
  });
  if (shape_.gate.score == GateScore::kSigmoid) {
    std::ranges::transform(logits_, scores_.begin(),
                           [](float z) { return 1.0F / (1.0F + std::exp(-z)); });
    return;
  }
  const float highest = std::ranges::max(logits_);
  float sum = 0;
  for (std::size_t e = 0; e < scores_.size(); ++e) {
    scores_[e] = std::exp(logits_[e] - highest);
    sum += scores_[e];
  }
  for (float& score : scores_) score /= sum;
}

void TopkChooser::choose_groups() {
  const auto num_groups = static_cast<std::size_t>(shape_.gate.num_groups);
  const std::size_t size = scores_.size() / num_groups;
  group_scores_.resize(num_groups);
  for (std::size_t group = 0; group < num_groups; ++group) {
    float best = 0;  // scores are at least 0
    float second = 0;
    for (std::size_t e = group * size; e < (group + 1) * size; ++e) {
      second = std::max(second, std::min(best, scores_[e]));
      best = std::max(best, scores_[e]);
    }
    group_scores_[group] = shape_.gate.score == GateScore::kSigmoid ? best + second : best;
  }
  groups_.resize(num_groups);
  std::iota(groups_.begin(), groups_.end(), 0);
  const auto count = static_cast<std::size_t>(shape_.gate.topk_groups);
  pick_best(groups_, count, group_scores_);
  groups_.resize(count);
}

void TopkChooser::set_weights(std::span<const std::int32_t> ids, std::span<float> weights) const {
  float sum = 0;
  for (std::size_t k = 0; k < ids.size(); ++k) {
    const auto id = static_cast<std::size_t>(ids[k]);  // -1 is beyond the end too
    weights[k] = id < scores_.size() ? scores_[id] : 0;
    sum += weights[k];
  }
  const auto scale = static_cast<float>(shape_.gate.weight_scale);
  const float factor = shape_.gate.normalise_weights && sum > 0 ? scale / sum : scale;
  for (float& weight : weights) weight *= factor;
}

void TopkChooser::choose(std::span<const float> logits, std::span<std::int32_t> ids,
                         std::span<float> weights) {
  score(logits);
  order_.resize(scores_.size());
  if (shape_.gate.topk_groups < shape_.gate.num_groups) {
    choose_groups();
    const auto size = static_cast<std::int32_t>(scores_.size()) / shape_.gate.num_groups;
    order_.clear();
    for (const std::int32_t group : groups_) {
      for (std::int32_t e = group * size; e < (group + 1) * size; ++e) order_.push_back(e);
    }
  } else {
    std::iota(order_.begin(), order_.end(), 0);
  }
  pick_best(order_, ids.size(), logits_);  // scores underflow, logits do not
  std::copy_n(order_.begin(), ids.size(), ids.begin());
  set_weights(ids, weights);
}

void TopkChooser::weigh(std::span<const float> logits, std::span<const std::int32_t> ids,
                        std::span<float> weights) {
  score(logits);
  set_weights(ids, weights);
}

Gate::Gate(const LayerShape& shape, std::span<const float> weights)
    : shape_(shape),
      weights_(weights),
      matmul_(make_matmul("", DataType::kFloat32)),
      chooser_(shape) {}

const GateOutput& Gate::run(std::span<const float> x, int num_tokens,
                            std::span<const std::int32_t> given_ids) {
  const auto tokens = static_cast<std::size_t>(num_tokens);
  const auto experts = static_cast<std::size_t>(shape_.num_experts);
  const auto topk = static_cast<std::size_t>(shape_.topk);
  logits_.resize(tokens * experts);
  output_.expert_ids.resize(tokens * topk);
  output_.weights.resize(tokens * topk);
  const WeightMatrix matrix{
      .rows = shape_.num_experts, .cols = shape_.hidden, .values = weights_.data()};
  matmul_->run(x.data(), num_tokens, matrix, logits_.data());
  std::ranges::copy(given_ids, output_.expert_ids.begin());
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto logits = std::span<const float>(logits_).subspan(t * experts, experts);
    const auto ids = std::span(output_.expert_ids).subspan(t * topk, topk);
    const auto weights = std::span(output_.weights).subspan(t * topk, topk);
    if (given_ids.empty()) {
      chooser_.choose(logits, ids, weights);
    } else {
      chooser_.weigh(logits, ids, weights);
    }
  }
  return output_;
}

}  // namespace metro::ep
