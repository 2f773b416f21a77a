// SPDX-License-Identifier: Apache-2.0
#include "metro/ep/layer_config.hpp"

#include <fmt/format.h>

#include "core/vocabulary.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"

namespace metro::ep {
namespace {

[[noreturn]] void fail(std::string_view field, int value, std::string_view expected) {
  throw Error(ErrorCode::kInput, fmt::format("{} is {}, must be {}", field, value, expected));
}

void check(std::string_view field, int value, int min, int max) {
  if (value < min || value > max) fail(field, value, fmt::format("in [{}, {}]", min, max));
}

}  // namespace

std::string_view to_string(Combine combine) noexcept {
  return combine == Combine::kReduceScatter ? "reduce-scatter" : "all-to-all";
}

std::string_view to_string(ExpertSharding sharding) noexcept {
  return sharding == ExpertSharding::kExpertParallel ? kWholeExperts : kMoeTp;
}

void LayerShape::validate() const {
  constexpr int kMaxWidth = 1 << 20;
  check("hidden", hidden, 1, kMaxWidth);
  check("intermediate", intermediate, 1, kMaxWidth);
  check("num_experts", num_experts, 1, kMaxExperts);
  check("topk", topk, 1, num_experts);
  check("shared_intermediate", shared_intermediate, 0, kMaxWidth);
  if (weights == DataType::kFp4) {
    throw Error(ErrorCode::kInput, "weights are fp4, a layer runs fp32, bf16 or fp8");
  }
  check("num_groups", gate.num_groups, 1, num_experts);
  if (num_experts % gate.num_groups != 0) {
    fail("num_groups", gate.num_groups, fmt::format("a divisor of {} experts", num_experts));
  }
  check("topk_groups", gate.topk_groups, 1, gate.num_groups);
  if (topk > num_experts / gate.num_groups * gate.topk_groups) {
    fail("topk", topk, "at most the experts of the chosen groups");
  }
}

LayerShape layer_shape(const ModelConfig& model) {
  LayerShape shape{.hidden = model.hidden,
                   .intermediate = model.expert_intermediate,
                   .num_experts = model.num_experts,
                   .topk = model.topk,
                   .shared_intermediate = model.shared_intermediate,
                   .gate = model.gate,
                   .weights = model.weights};
  shape.validate();
  return shape;
}

}  // namespace metro::ep
