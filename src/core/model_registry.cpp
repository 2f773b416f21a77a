// SPDX-License-Identifier: Apache-2.0
// Models whose names work without a file. Every field is as in the HF config.json of the id that
// stands beside the model; a test compares them where such files are at hand.
#include <algorithm>
#include <array>

#include "core/lower_case.hpp"
#include "metro/model.hpp"

namespace metro {
namespace {

ModelConfig grouped(std::string name, int hidden, int layers, int heads, int kv_heads,
                    int head_dim) {
  ModelConfig m;
  m.name = std::move(name);
  m.hidden = hidden;
  m.num_layers = layers;
  m.num_heads = heads;
  m.num_kv_heads = kv_heads;
  m.head_dim = head_dim;
  return m;
}

ModelConfig latent(std::string name, int hidden, int layers, int heads, int q_lora_rank,
                   int qk_nope_head_dim, int v_head_dim) {
  ModelConfig m;
  m.name = std::move(name);
  m.hidden = hidden;
  m.num_layers = layers;
  m.attention = AttentionKind::kLatent;
  m.num_heads = m.num_kv_heads = heads;
  m.q_lora_rank = q_lora_rank;
  m.kv_lora_rank = 512;
  m.qk_nope_head_dim = qk_nope_head_dim;
  m.qk_rope_head_dim = 64;
  m.v_head_dim = v_head_dim;
  return m;
}

void set_experts(ModelConfig& m, int experts, int topk, int intermediate, int shared = 0) {
  m.num_experts = experts;
  m.topk = topk;
  m.expert_intermediate = intermediate;
  m.shared_intermediate = shared;
}

void set_dense(ModelConfig& m, int layers, int intermediate) {
  m.num_dense_layers = layers;
  m.dense_intermediate = intermediate;
}

void set_vocabulary(ModelConfig& m, int size, int max_position) {
  m.vocab_size = size;
  m.max_position = max_position;
}

GateConfig sigmoid_gate(int groups, int topk_groups, double scale) {
  return {GateScore::kSigmoid, groups, topk_groups, true, scale};
}

ModelConfig qwen3(std::string name, int hidden, int layers, int heads, int kv_heads, int experts,
                  int intermediate, int dense, int max_position) {
  ModelConfig m = grouped(std::move(name), hidden, layers, heads, kv_heads, 128);
  set_experts(m, experts, 8, intermediate);
  m.dense_intermediate = dense;
  set_vocabulary(m, 151936, max_position);
  return m;
}

ModelConfig qwen3_5() {
  ModelConfig m = grouped("Qwen3.5-397B-A17B", 4096, 60, 32, 2, 256);
  set_experts(m, 512, 10, 1024, 1024);
  m.full_attention_interval = 4;
  m.attention_gate = true;
  m.linear_key_heads = 16;
  m.linear_value_heads = 64;
  m.linear_head_dim = 128;
  set_vocabulary(m, 248320, 262144);
  return m;
}

ModelConfig deepseek_v2_lite() {
  ModelConfig m = latent("DeepSeek-V2-Lite", 2048, 27, 16, 0, 128, 128);
  set_experts(m, 64, 6, 1408, 2 * 1408);
  set_dense(m, 1, 10944);
  m.gate.normalise_weights = false;
  set_vocabulary(m, 102400, 163840);
  return m;
}

ModelConfig deepseek_v3(std::string name = "DeepSeek-V3") {
  ModelConfig m = latent(std::move(name), 7168, 61, 128, 1536, 128, 128);
  set_experts(m, 256, 8, 2048, 2048);
  set_dense(m, 3, 18432);
  m.gate = sigmoid_gate(8, 4, 2.5);
  m.weights = m.dense_weights = DataType::kFp8;
  set_vocabulary(m, 129280, 163840);
  return m;
}

/// V3's shapes; each query reads 2,048 keys that a light indexer chose.
ModelConfig deepseek_v3_2() {
  ModelConfig m = deepseek_v3("DeepSeek-V3.2");
  m.sparse_topk = 2048;
  m.index_head_dim = 128;
  return m;
}

ModelConfig kimi_k2(std::string name, int max_position) {
  ModelConfig m = latent(std::move(name), 7168, 61, 64, 1536, 128, 128);
  set_experts(m, 384, 8, 2048, 2048);
  set_dense(m, 1, 18432);
  m.gate = sigmoid_gate(1, 1, 2.827);
  m.weights = m.dense_weights = DataType::kFp8;
  set_vocabulary(m, 163840, max_position);
  return m;
}

ModelConfig kimi_k2_5() {
  ModelConfig m = kimi_k2("Kimi-K2.5", 262144);
  m.weights = DataType::kFp4;
  m.dense_weights = DataType::kBf16;
  return m;
}

ModelConfig gpt_oss(std::string name, int layers, int experts) {
  ModelConfig m = grouped(std::move(name), 2880, layers, 64, 8, 64);
  set_experts(m, experts, 4, 2880);
  m.sliding_window = 128;
  m.full_attention_interval = 2;
  m.weights = DataType::kFp4;
  set_vocabulary(m, 201088, 131072);
  return m;
}

ModelConfig glm_4(std::string name, int max_position) {
  ModelConfig m = grouped(std::move(name), 5120, 92, 96, 8, 128);
  set_experts(m, 160, 8, 1536, 1536);
  set_dense(m, 3, 12288);
  m.gate = sigmoid_gate(1, 1, 2.5);
  set_vocabulary(m, 151552, max_position);
  return m;
}

ModelConfig glm_5() {
  ModelConfig m = latent("GLM-5", 6144, 78, 64, 2048, 192, 256);
  set_experts(m, 256, 8, 2048, 2048);
  set_dense(m, 3, 12288);
  m.gate = sigmoid_gate(1, 1, 2.5);
  m.sparse_topk = 2048;
  m.index_head_dim = 128;
  set_vocabulary(m, 154880, 202752);
  return m;
}

ModelConfig minimax_m2() {
  ModelConfig m = grouped("MiniMax-M2", 3072, 62, 48, 8, 128);
  set_experts(m, 256, 8, 1536);
  m.gate = sigmoid_gate(1, 1, 1.0);
  m.wide_qk_norm = true;
  m.weights = m.dense_weights = DataType::kFp8;
  set_vocabulary(m, 200064, 196608);
  return m;
}

ModelConfig mixtral() {
  ModelConfig m = grouped("Mixtral-8x7B", 4096, 32, 32, 8, 128);
  set_experts(m, 8, 2, 14336);
  set_vocabulary(m, 32000, 32768);
  return m;
}

ModelConfig olmoe() {
  ModelConfig m = grouped("OLMoE-1B-7B", 2048, 16, 16, 16, 128);
  m.wide_qk_norm = true;
  set_experts(m, 64, 8, 1024);
  m.gate.normalise_weights = false;
  m.weights = m.dense_weights = DataType::kFloat32;
  set_vocabulary(m, 50304, 4096);
  return m;
}

ModelConfig llama_4_maverick() {
  ModelConfig m = grouped("Llama-4-Maverick", 5120, 48, 40, 8, 128);
  set_experts(m, 128, 1, 8192, 8192);
  m.moe_layer_step = 2;
  m.dense_intermediate = 16384;
  m.gate = sigmoid_gate(1, 1, 1.0);
  m.gate.normalise_weights = false;
  m.sliding_window = 8192;
  m.full_attention_interval = 4;
  set_vocabulary(m, 202048, 1048576);
  return m;
}

const std::array<ModelConfig, 18>& models() {
  static const std::array<ModelConfig, 18> table = {
      qwen3("Qwen3-30B-A3B", 2048, 48, 32, 4, 128, 768, 6144, 40960),
      qwen3("Qwen3-235B-A22B", 4096, 94, 64, 4, 128, 1536, 12288, 40960),
      qwen3("Qwen3-Coder-480B", 6144, 62, 96, 8, 160, 2560, 8192, 262144),
      qwen3_5(),
      deepseek_v2_lite(),
      deepseek_v3(),
      deepseek_v3_2(),
      kimi_k2("Kimi-K2", 131072),
      kimi_k2_5(),
      gpt_oss("gpt-oss-20b", 24, 32),
      gpt_oss("gpt-oss-120b", 36, 128),
      glm_4("GLM-4.5", 131072),
      glm_4("GLM-4.6", 202752),
      glm_5(),
      minimax_m2(),
      mixtral(),
      olmoe(),
      llama_4_maverick(),
  };
  return table;
}

struct Alias {
  std::string_view name;
  std::string_view model;
};

/// Other releases of the same shapes. Endings of kEndings are dropped before a name is looked up.
constexpr std::array kAliases = {
    Alias{"Qwen3-Coder-480B-A35B", "Qwen3-Coder-480B"},
    Alias{"Qwen3.5-397B", "Qwen3.5-397B-A17B"},
    Alias{"Qwen3-30B", "Qwen3-30B-A3B"},
    Alias{"Qwen3-235B", "Qwen3-235B-A22B"},
    Alias{"DeepSeek-R1", "DeepSeek-V3"},
    Alias{"DeepSeek-V3.1", "DeepSeek-V3"},
    Alias{"DeepSeek-V3.1-Terminus", "DeepSeek-V3"},
    Alias{"DeepSeek-V3.2-Exp", "DeepSeek-V3.2"},
    Alias{"Kimi-K2.6", "Kimi-K2.5"},
    Alias{"MiniMax-M2.1", "MiniMax-M2"},
    Alias{"MiniMax-M2.5", "MiniMax-M2"},
    Alias{"GLM-4.7", "GLM-4.6"},
    Alias{"Mixtral-8x7B-v0.1", "Mixtral-8x7B"},
    Alias{"OLMoE-1B-7B-0125", "OLMoE-1B-7B"},
    Alias{"OLMoE-1B-7B-0924", "OLMoE-1B-7B"},
    Alias{"Llama-4-Maverick-17B-128E", "Llama-4-Maverick"},
};

/// Endings that name a training stage, a date or a number format, none of which changes a shape.
constexpr std::array<std::string_view, 20> kEndings = {
    "-instruct", "-thinking", "-chat", "-base", "-fp8",  "-fp4",  "-nvfp4",
    "-mxfp4",    "-bf16",     "-int4", "-2507", "-0324", "-0528", "-0711",
    "-0905",     "-0731",     "-v2",   "-v0.1", ".json", "-hf"};

const ModelConfig* find_exact(std::string_view name) noexcept {
  for (const Alias& alias : kAliases) {
    if (equal_ignoring_case(alias.name, name)) name = alias.model;
  }
  const auto& table = models();
  const auto found = std::ranges::find_if(
      table, [&](const ModelConfig& m) { return equal_ignoring_case(m.name, name); });
  return found == table.end() ? nullptr : &*found;
}

/// Without its last ending of kEndings, or the same.
std::string_view without_ending(std::string_view name) noexcept {
  for (const std::string_view ending : kEndings) {
    if (name.size() > ending.size() &&
        equal_ignoring_case(name.substr(name.size() - ending.size()), ending)) {
      return name.substr(0, name.size() - ending.size());
    }
  }
  return name;
}

}  // namespace

const ModelConfig* find_model(std::string_view name) noexcept {
  // "Qwen/Qwen3-30B-A3B" is an HF id, "Qwen--Qwen3-30B-A3B" a file stem.
  if (const auto at = name.find('/'); at != name.npos) name.remove_prefix(at + 1);
  if (const auto at = name.find("--"); at != name.npos) name.remove_prefix(at + 2);
  for (;;) {
    if (const ModelConfig* model = find_exact(name)) return model;
    const std::string_view shorter = without_ending(name);
    if (shorter == name) return nullptr;
    name = shorter;
  }
}

std::vector<std::string_view> model_names() {
  std::vector<std::string_view> names;
  for (const ModelConfig& model : models()) names.push_back(model.name);
  return names;
}

}  // namespace metro
