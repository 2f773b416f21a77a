// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace metro {

/// Number format of weights, activations or the KV cache.
enum class DataType : std::uint8_t { kFloat32, kBf16, kFp8, kFp4 };

/// "fp32", "bf16", "fp8" or "fp4".
std::string_view data_type_name(DataType type) noexcept;

/// Bytes of one value, scales included (fp4 has one byte of scale for 32 values).
double bytes_per_value(DataType type) noexcept;

/// The type of that name in any case, or nothing; "nvfp4", "mxfp4" and "int4" are fp4, "float16"
/// is bf16, "float8", "fp8_block" and "int8" are fp8.
std::optional<DataType> find_data_type(std::string_view name) noexcept;

enum class AttentionKind : std::uint8_t {
  kGrouped,  ///< multi-head, multi-query and grouped-query attention
  kLatent    ///< DeepSeek's MLA: one compressed vector a token, shared by all heads
};

enum class GateScore : std::uint8_t { kSoftmax, kSigmoid };

/// How a token's experts are chosen from the gate's scores.
struct GateConfig {
  GateScore score = GateScore::kSoftmax;
  int num_groups = 1;             ///< experts in equal, contiguous groups
  int topk_groups = 1;            ///< only the best groups may be chosen from
  bool normalise_weights = true;  ///< the chosen weights sum to `weight_scale`
  double weight_scale = 1.0;
  friend bool operator==(const GateConfig&, const GateConfig&) = default;
};

/// What serving a model costs depends on: its shapes, from a HF config.json or the registry.
///
/// An aggregate; `validate` checks it, and every class that is built from one calls that first.
struct ModelConfig {
  std::string name;
  int hidden = 0;
  int num_layers = 0;
  int num_dense_layers = 0;  ///< the first layers, without experts
  int moe_layer_step = 1;    ///< after those, every so many-th layer has experts
  int dense_intermediate = 0;

  int num_experts = 0;
  int topk = 0;
  int expert_intermediate = 0;
  int shared_intermediate = 0;  ///< of all shared experts together; 0: none
  GateConfig gate;

  AttentionKind attention = AttentionKind::kGrouped;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int q_lora_rank = 0;  ///< latent attention from here on; 0: queries are not compressed
  int kv_lora_rank = 0;
  int qk_nope_head_dim = 0;
  int qk_rope_head_dim = 0;
  int v_head_dim = 0;
  int sliding_window = 0;           ///< tokens that windowed layers see; 0: all see everything
  int full_attention_interval = 1;  ///< every so many-th layer sees everything; 1: all do
  int sparse_topk = 0;              ///< keys that a query reads of its context; 0: all of them
  int index_head_dim = 0;           ///< values of each key that choose those
  bool wide_qk_norm = false;        ///< queries and keys are normalised over all heads together
  bool attention_gate = false;      ///< the output is gated by a projection as wide as the queries
  /// Gated delta rule in the layers between those of `full_attention_interval`; 0 heads: none.
  int linear_key_heads = 0;
  int linear_value_heads = 0;
  int linear_head_dim = 0;

  int vocab_size = 0;
  int max_position = 0;  ///< longest context, prompt and answer together
  bool tied_embeddings = false;
  DataType weights = DataType::kBf16;        ///< of the routed experts
  DataType dense_weights = DataType::kBf16;  ///< of attention, dense and shared layers

  [[nodiscard]] int num_moe_layers() const noexcept;
  [[nodiscard]] bool is_moe_layer(int layer) const noexcept;
  /// Weights of one routed expert (gate, up and down projection).
  [[nodiscard]] std::int64_t expert_parameters() const noexcept {
    return std::int64_t{3} * hidden * expert_intermediate;
  }

  /// Throws Error{kInput} that names the field, its value and what would be right.
  void validate() const;

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

/// The model of that name in the registry, by its own name, its HF id or the stem of its config
/// file, in any case ("DeepSeek-R1" is DeepSeek-V3); or nullptr.
const ModelConfig* find_model(std::string_view name) noexcept;

/// Names that `find_model` knows, one a model.
std::vector<std::string_view> model_names();

}  // namespace metro
