// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cost/layer_builder.hpp"

namespace metro::cost {
namespace {

/// A gated delta rule runs as several kernels of a few microseconds: convolution, gates, norms,
/// recurrence, output norm.
constexpr double kRecurrentKernels = 8;
constexpr double kRecurrentKernelUs = 4;

}  // namespace

KernelTime LayerBuilder::kernel(const Roofline& roofline, double flops) const noexcept {
  return {roofline, gpu_.memory_bytes_per_s, flops, engine_.kernel_scale};
}

void LayerBuilder::add_attention(StepParts& parts) const {
  const double layers = model_.num_layers;
  if (model_.attention == AttentionKind::kLatent) {
    add_latent_attention(parts, layers);
    return;
  }
  const int full = model_.num_layers / model_.full_attention_interval;
  add_grouped_attention(parts, full, model_.sparse_topk);
  if (!(layers > full)) return;
  if (model_.linear_value_heads > 0) {
    add_recurrent_attention(parts, layers - full);
  } else {
    add_grouped_attention(parts, layers - full, model_.sliding_window);
  }
}

void LayerBuilder::add_grouped_attention(StepParts& parts, double layers, double window) const {
  const double heads = model_.num_heads / tp_;
  // More GPUs than KV heads: each head lies on several.
  const double kv_heads = std::max(1.0, model_.num_kv_heads / tp_);
  const double width = model_.head_dim;
  const double query_columns = heads * width * (model_.attention_gate ? 2 : 1);
  const DataType weights = deployment_.dense_weights;
  add_gemm(parts, Stage::kAttention, layers, query_columns + 2 * kv_heads * width, model_.hidden,
           weights);
  add_gemm(parts, Stage::kAttention, layers, model_.hidden, heads * width, weights);

  const Roofline& decode = attention_roofline(architecture_, deployment_.engine,
                                              AttentionKind::kGrouped, deployment_.kv);
  parts.attention.push_back({
      .count = layers,
      .window = window,
      .index_bytes = 0,
      .key_bytes = 2 * kv_heads * width * bytes_per_value(deployment_.kv),
      .key_operations = 4 * heads * width,
      .pair_operations = 4 * heads * width,
      .decode = kernel(decode, gpu_.bf16_flops),
      .prefill = kernel({decode.fixed_us, 1, engine_.prefill_attention, 1}, gpu_.bf16_flops),
  });
}

void LayerBuilder::add_latent_attention(StepParts& parts, double layers) const {
  const double heads = model_.num_heads / tp_;
  const double query_width = model_.qk_nope_head_dim + model_.qk_rope_head_dim;
  const double latent = model_.kv_lora_rank + model_.qk_rope_head_dim;
  const DataType weights = deployment_.dense_weights;
  const double query_inner = model_.q_lora_rank > 0 ? model_.q_lora_rank : model_.hidden;
  add_gemm(parts, Stage::kAttention, layers, model_.q_lora_rank + latent, model_.hidden, weights);
  add_gemm(parts, Stage::kAttention, layers, heads * query_width, query_inner, weights);
  // Queries into the latent space and values out of it; prefill expands keys and values with them.
  add_gemm(parts, Stage::kAttention, layers, heads * model_.qk_nope_head_dim, model_.kv_lora_rank,
           DataType::kBf16);
  add_gemm(parts, Stage::kAttention, layers, heads * model_.v_head_dim, model_.kv_lora_rank,
           DataType::kBf16);
  add_gemm(parts, Stage::kAttention, layers, model_.hidden, heads * model_.v_head_dim, weights);

  const Roofline& decode =
      attention_roofline(architecture_, deployment_.engine, AttentionKind::kLatent, deployment_.kv);
  const bool sparse = model_.sparse_topk > 0;
  parts.attention.push_back({
      .count = layers,
      .window = static_cast<double>(model_.sparse_topk),
      .index_bytes = sparse ? model_.index_head_dim : 0.0,
      .key_bytes = latent * bytes_per_value(deployment_.kv),
      .key_operations = 2 * heads * (latent + model_.kv_lora_rank),
      .pair_operations = 2 * heads * (query_width + model_.v_head_dim),
      .decode = kernel(decode, gpu_.bf16_flops),
      .prefill = kernel({decode.fixed_us, 1, engine_.prefill_attention, 1}, gpu_.bf16_flops),
  });
}

void LayerBuilder::add_recurrent_attention(StepParts& parts, double layers) const {
  const double key_width = 1.0 * model_.linear_key_heads * model_.linear_head_dim / tp_;
  const double value_width = 1.0 * model_.linear_value_heads * model_.linear_head_dim / tp_;
  const DataType weights = deployment_.dense_weights;
  // Queries, keys, values and the output's gate.
  add_gemm(parts, Stage::kAttention, layers, 2 * key_width + 2 * value_width, model_.hidden,
           weights);
  add_gemm(parts, Stage::kAttention, layers, 2.0 * model_.linear_value_heads / tp_, model_.hidden,
           DataType::kBf16);  // decay and step size of each head
  add_gemm(parts, Stage::kAttention, layers, model_.hidden, value_width, weights);
  parts.recurrent.push_back({
      .count = layers,
      .state_bytes = 4.0 * value_width * model_.linear_head_dim,  // kept in float32
      .row_operations = 6.0 * value_width * model_.linear_head_dim,
      .time = kernel({kRecurrentKernels * kRecurrentKernelUs, 0.7, 0.1, 2}, gpu_.bf16_flops),
  });
}

}  // namespace metro::cost
