// SPDX-License-Identifier: Apache-2.0
#include "metro/model.hpp"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "core/lower_case.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"

namespace metro {
namespace {

/// Wide enough for any model, and small enough that no product of shapes leaves 64 bits.
constexpr int kMaxWidth = 1 << 20;
constexpr int kMaxLayers = 1 << 14;
constexpr int kMaxPosition = 1 << 30;

struct TypeName {
  std::string_view name;
  DataType type;
};

constexpr std::array kTypeNames = {
    TypeName{"fp32", DataType::kFloat32},    TypeName{"bf16", DataType::kBf16},
    TypeName{"fp8", DataType::kFp8},         TypeName{"fp4", DataType::kFp4},
    TypeName{"float32", DataType::kFloat32}, TypeName{"float", DataType::kFloat32},
    TypeName{"bfloat16", DataType::kBf16},   TypeName{"float16", DataType::kBf16},
    TypeName{"fp16", DataType::kBf16},       TypeName{"half", DataType::kBf16},
    TypeName{"float8", DataType::kFp8},      TypeName{"float8_e4m3fn", DataType::kFp8},
    TypeName{"fp8_block", DataType::kFp8},   TypeName{"fp8_e4m3", DataType::kFp8},
    TypeName{"int8", DataType::kFp8},        TypeName{"nvfp4", DataType::kFp4},
    TypeName{"mxfp4", DataType::kFp4},       TypeName{"w4a16_mxfp4", DataType::kFp4},
    TypeName{"int4", DataType::kFp4},
};

/// Checks fields one by one; the first fault is thrown.
class Checker {
 public:
  explicit Checker(const ModelConfig& model) : model_(model) {}

  void range(const char* field, int value, int min, int max) const {
    if (value < min || value > max) {
      reject(field, std::to_string(value), fmt::format("must be {}..{}", min, max));
    }
  }

  [[noreturn]] void reject(const char* field, std::string_view value,
                           std::string_view wanted) const {
    throw Error(ErrorCode::kInput,
                fmt::format("{}{}{} is {}, {}", model_.name, model_.name.empty() ? "" : ": ", field,
                            value, wanted));
  }

 private:
  const ModelConfig& model_;
};

void check_attention(const ModelConfig& m, const Checker& check) {
  check.range("num_heads", m.num_heads, 1, kMaxWidth);
  if (m.attention == AttentionKind::kGrouped) {
    check.range("num_kv_heads", m.num_kv_heads, 1, m.num_heads);
    check.range("head_dim", m.head_dim, 1, kMaxWidth);
    if (m.num_heads % m.num_kv_heads != 0) {
      check.reject("num_kv_heads", std::to_string(m.num_kv_heads),
                   fmt::format("must divide num_heads ({})", m.num_heads));
    }
  } else {
    check.range("q_lora_rank", m.q_lora_rank, 0, kMaxWidth);
    check.range("kv_lora_rank", m.kv_lora_rank, 1, kMaxWidth);
    check.range("qk_nope_head_dim", m.qk_nope_head_dim, 1, kMaxWidth);
    check.range("qk_rope_head_dim", m.qk_rope_head_dim, 0, kMaxWidth);
    check.range("v_head_dim", m.v_head_dim, 1, kMaxWidth);
  }
  check.range("sliding_window", m.sliding_window, 0, kMaxPosition);
  check.range("full_attention_interval", m.full_attention_interval, 1, m.num_layers);
  check.range("sparse_topk", m.sparse_topk, 0, kMaxPosition);
  check.range("index_head_dim", m.index_head_dim, 0, kMaxWidth);
  check.range("linear_value_heads", m.linear_value_heads, 0, kMaxWidth);
  check.range("linear_key_heads", m.linear_key_heads, m.linear_value_heads > 0 ? 1 : 0, kMaxWidth);
  check.range("linear_head_dim", m.linear_head_dim, m.linear_value_heads > 0 ? 1 : 0, kMaxWidth);
}

}  // namespace

std::string_view data_type_name(DataType type) noexcept {
  for (const TypeName& entry : kTypeNames) {
    if (entry.type == type) return entry.name;
  }
  return "?";
}

double bytes_per_value(DataType type) noexcept {
  switch (type) {
    case DataType::kFloat32:
      return 4;
    case DataType::kBf16:
      return 2;
    case DataType::kFp8:
      return 1;
    case DataType::kFp4:
      return 0.5 + 1.0 / 32;
  }
  return 0;
}

std::optional<DataType> find_data_type(std::string_view name) noexcept {
  for (const TypeName& entry : kTypeNames) {
    if (equal_ignoring_case(entry.name, name)) return entry.type;
  }
  return std::nullopt;
}

int ModelConfig::num_moe_layers() const noexcept {
  return (num_layers - num_dense_layers) / moe_layer_step;
}

bool ModelConfig::is_moe_layer(int layer) const noexcept {
  return layer >= num_dense_layers && layer < num_layers &&
         (layer - num_dense_layers + 1) % moe_layer_step == 0;
}

void ModelConfig::validate() const {
  const Checker check(*this);
  check.range("hidden", hidden, 1, kMaxWidth);
  check.range("num_layers", num_layers, 1, kMaxLayers);
  check.range("num_dense_layers", num_dense_layers, 0, num_layers - 1);
  check.range("moe_layer_step", moe_layer_step, 1, num_layers - num_dense_layers);
  const bool has_dense = num_moe_layers() < num_layers;
  check.range("dense_intermediate", dense_intermediate, has_dense ? 1 : 0, kMaxWidth);
  check.range("num_experts", num_experts, 1, kMaxExperts);
  check.range("topk", topk, 1, num_experts);
  check.range("expert_intermediate", expert_intermediate, 1, kMaxWidth);
  check.range("shared_intermediate", shared_intermediate, 0, kMaxWidth);
  check.range("gate.num_groups", gate.num_groups, 1, num_experts);
  if (num_experts % gate.num_groups != 0) {
    check.reject("gate.num_groups", std::to_string(gate.num_groups),
                 fmt::format("must divide num_experts ({})", num_experts));
  }
  check.range("gate.topk_groups", gate.topk_groups, 1, gate.num_groups);
  if (topk > gate.topk_groups * (num_experts / gate.num_groups)) {
    check.reject("topk", std::to_string(topk),
                 fmt::format("must be at most the {} experts of gate.topk_groups groups",
                             gate.topk_groups * (num_experts / gate.num_groups)));
  }
  // Written so that NaN fails too.
  if (!(gate.weight_scale > 0 && gate.weight_scale < 1e6)) {
    check.reject("gate.weight_scale", fmt::format("{}", gate.weight_scale), "must be above 0");
  }
  check_attention(*this, check);
  check.range("vocab_size", vocab_size, 1, 1 << 26);
  check.range("max_position", max_position, 1, kMaxPosition);
}

}  // namespace metro
