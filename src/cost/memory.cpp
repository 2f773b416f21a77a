// SPDX-License-Identifier: Apache-2.0
#include "cost/memory.hpp"

#include <algorithm>

namespace metro::cost {
namespace {

/// Engines take 90 % of the memory; activations, graphs and communication buffers need some of it.
constexpr double kUsableShare = 0.9;
constexpr double kWorkspaceBytes = 3e9;

double attention_parameters(const ModelConfig& m) {
  if (m.attention == AttentionKind::kLatent) {
    const double heads = m.num_heads;
    const double query_width = m.qk_nope_head_dim + m.qk_rope_head_dim;
    const double query = m.q_lora_rank > 0 ? m.q_lora_rank * (m.hidden + heads * query_width)
                                           : m.hidden * heads * query_width;
    return query + 1.0 * m.hidden * (m.kv_lora_rank + m.qk_rope_head_dim) +
           m.kv_lora_rank * heads * (m.qk_nope_head_dim + m.v_head_dim) +
           heads * m.v_head_dim * m.hidden;
  }
  const double query = 1.0 * m.num_heads * m.head_dim;
  return m.hidden * (query * (m.attention_gate ? 3 : 2) + 2.0 * m.num_kv_heads * m.head_dim);
}

double recurrent_parameters(const ModelConfig& m) {
  return m.hidden * (2.0 * m.linear_key_heads + 3.0 * m.linear_value_heads) * m.linear_head_dim;
}

}  // namespace

MemoryUse memory_use(const ModelConfig& m, const GpuSpec& gpu, const Deployment& d) {
  const double tp = d.tp;
  const double moe_layers = m.num_moe_layers();
  const double full_layers = m.attention == AttentionKind::kLatent
                                 ? m.num_layers
                                 : m.num_layers / m.full_attention_interval;
  const double other_layers = m.num_layers - full_layers;
  const bool recurrent = m.linear_value_heads > 0;
  const double dense_bytes = bytes_per_value(d.dense_weights);

  const double attention =
      full_layers * attention_parameters(m) +
      other_layers * (recurrent ? recurrent_parameters(m) : attention_parameters(m));
  const double feed_forward =
      3.0 * m.hidden *
      ((m.num_layers - moe_layers) * m.dense_intermediate + moe_layers * m.shared_intermediate);
  const double vocabulary = 1.0 * m.vocab_size * m.hidden * (m.tied_embeddings ? 1 : 2);
  const double gates = moe_layers * m.num_experts * m.hidden;

  MemoryUse use;
  const double shards = d.expert_shards();
  const double expert_bytes =
      static_cast<double>(m.expert_parameters()) * bytes_per_value(d.expert_weights) / shards;
  use.slot_bytes = moe_layers * expert_bytes;
  const double home_slots =
      d.tensor_sharded_experts ? m.num_experts : 1.0 * m.num_experts / d.expert_gpus();
  const double slots =
      d.slots_per_gpu > 0 && !d.tensor_sharded_experts ? d.slots_per_gpu : home_slots;
  use.replica_bytes = std::max(0.0, slots - home_slots) * use.slot_bytes;
  use.weights_bytes = (attention + feed_forward) * dense_bytes / tp + 2 * vocabulary / tp +
                      2 * gates + slots * use.slot_bytes;

  const double kv_bytes = bytes_per_value(d.kv);
  if (m.attention == AttentionKind::kLatent) {
    use.kv_bytes_per_token = full_layers * (m.kv_lora_rank + m.qk_rope_head_dim) * kv_bytes +
                             (m.sparse_topk > 0 ? full_layers * m.index_head_dim : 0);
  } else {
    const double layer_bytes = 2 * std::max(1.0, m.num_kv_heads / tp) * m.head_dim * kv_bytes;
    use.kv_bytes_per_token = full_layers * layer_bytes;
    if (recurrent) {
      use.kv_bytes_per_request =
          other_layers * 4.0 * m.linear_value_heads / tp * m.linear_head_dim * m.linear_head_dim;
    } else if (m.sliding_window > 0) {
      use.kv_bytes_per_request = other_layers * layer_bytes * m.sliding_window;
    }
  }
  const double left = gpu.memory_bytes * kUsableShare - kWorkspaceBytes - use.weights_bytes;
  use.kv_capacity_tokens = left > 0 ? static_cast<std::int64_t>(left / use.kv_bytes_per_token) : 0;
  return use;
}

}  // namespace metro::cost
