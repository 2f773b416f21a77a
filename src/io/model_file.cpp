// SPDX-License-Identifier: Apache-2.0
// The config.json of Hugging Face models. Architectures name the same thing differently; the first
// of its names that stands in the file is taken.
#include "io/model_file.hpp"

#include <fmt/format.h>

#include <initializer_list>
#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"

namespace metro::io {
namespace {

constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();

using Names = std::initializer_list<const char*>;

/// A member that is there and not null: configs write null for "does not apply".
std::optional<JsonRef> find_set(const JsonRef& object, Names names) {
  for (const char* name : names) {
    const auto member = object.find(name);
    if (member && !member->value().is_null()) return member;
  }
  return std::nullopt;
}

int read_int(const JsonRef& object, Names names, int otherwise) {
  const auto member = find_set(object, names);
  return member ? static_cast<int>(member->integer(0, kMaxInt)) : otherwise;
}

int read_int(const JsonRef& object, Names names) {
  if (!find_set(object, names)) {
    const std::string parent = object.path();
    fail(object.file(),
         fmt::format("{}{}{} is missing", parent, parent.empty() ? "" : ".", *names.begin()));
  }
  return read_int(object, names, 0);
}

bool read_bool(const JsonRef& object, const char* name, bool otherwise) {
  const auto member = find_set(object, {name});
  if (!member) return otherwise;
  if (!member->value().is_boolean()) member->reject("true or false");
  return member->value().get<bool>();
}

std::string read_text(const JsonRef& object, Names names) {
  const auto member = find_set(object, names);
  return member ? member->text() : "";
}

DataType weights_of_bits(const JsonRef& bits) {
  switch (bits.integer(1, 32)) {
    case 4:
      return DataType::kFp4;
    case 8:
      return DataType::kFp8;
    case 16:
      return DataType::kBf16;
    default:
      bits.reject("4, 8 or 16");
  }
}

/// Whether one of the patterns in a list of layers that stay wide is of attention.
bool keeps_attention(const JsonRef& quantization) {
  const auto list = find_set(quantization, {"modules_to_not_convert", "ignore", "ignored_layers"});
  if (!list || !list->value().is_array()) return false;
  for (const auto& pattern : list->value()) {
    if (pattern.is_string() &&
        pattern.get_ref<const std::string&>().find("attn") != std::string::npos) {
      return true;
    }
  }
  return false;
}

/// compressed-tensors: the first group that says how its weights are kept.
DataType read_compressed(const JsonRef& quantization) {
  const auto groups = find_set(quantization, {"config_groups"});
  if (groups && groups->value().is_object()) {
    for (const auto& [name, unused] : groups->value().items()) {
      const JsonRef group = groups->at(name.c_str());
      const auto weights = find_set(group, {"weights"});
      if (!weights) continue;
      if (const auto bits = find_set(*weights, {"num_bits"})) return weights_of_bits(*bits);
    }
  }
  quantization.reject("compressed-tensors with a config_groups.*.weights.num_bits");
}

DataType read_quantized_type(const JsonRef& quantization) {
  if (const auto bits = find_set(quantization, {"bits", "weight_bits"}))
    return weights_of_bits(*bits);
  const auto algorithm = find_set(quantization, {"quant_algo"});
  const auto method = algorithm ? algorithm : find_set(quantization, {"quant_method"});
  if (!method) quantization.reject("an object with quant_method");
  if (const auto type = find_data_type(method->text())) return *type;
  if (method->text() == "compressed-tensors") return read_compressed(quantization);
  method->reject("fp8, mxfp4, nvfp4, compressed-tensors, or a method that gives its bits");
}

void read_types(const JsonRef& root, const JsonRef& text, ModelConfig& model) {
  for (const JsonRef* object : {&text, &root}) {
    const auto type = find_set(*object, {"torch_dtype", "dtype"});
    if (!type) continue;
    const auto found = find_data_type(type->text());
    if (!found) type->reject("float32, bfloat16 or float16");
    model.weights = model.dense_weights = *found;
    break;
  }
  auto quantization = find_set(text, {"quantization_config"});
  if (!quantization) quantization = find_set(root, {"quantization_config"});
  if (!quantization) return;
  model.weights = read_quantized_type(*quantization);
  if (!keeps_attention(*quantization)) model.dense_weights = model.weights;
}

void read_experts(const JsonRef& text, ModelConfig& model) {
  model.num_experts = read_int(
      text, {"n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"}, 0);
  if (model.num_experts == 0) {
    fail(text.file(),
         "has no experts (n_routed_experts, num_experts or num_local_experts), must be "
         "the config of a mixture-of-experts model");
  }
  model.topk =
      read_int(text, {"num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k"});
  // Without a width of their own, experts have that of the feed-forward layer.
  model.expert_intermediate = read_int(text, {"moe_intermediate_size", "intermediate_size"});
  const std::string kind = read_text(text, {"model_type"});
  const bool is_llama_4 = kind.starts_with("llama4");
  model.shared_intermediate =
      read_int(text, {"shared_expert_intermediate_size", "shared_intermediate_size"}, 0);
  const int num_shared =
      read_int(text, {"n_shared_experts", "num_shared_experts"}, is_llama_4 ? 1 : 0);
  if (model.shared_intermediate == 0 && num_shared > 0) {
    const std::int64_t width = std::int64_t{num_shared} * model.expert_intermediate;
    if (width > kMaxInt)
      fail(text.file(), "n_shared_experts times moe_intermediate_size is too wide");
    model.shared_intermediate = static_cast<int>(width);
  }
  model.num_dense_layers = read_int(text, {"first_k_dense_replace"}, 0);
  model.moe_layer_step =
      read_int(text, {"decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq"}, 1);
  const bool has_own_width = find_set(text, {"moe_intermediate_size"}).has_value();
  if (is_llama_4) {
    model.dense_intermediate = read_int(text, {"intermediate_size_mlp"});
  } else if (has_own_width) {
    model.dense_intermediate = read_int(text, {"intermediate_size"}, 0);
  }
}

void read_gate(const JsonRef& text, ModelConfig& model) {
  GateConfig& gate = model.gate;
  const std::string score = read_text(text, {"scoring_func"});
  const std::string kind = read_text(text, {"model_type"});
  const bool is_sigmoid =
      score == "sigmoid" ||
      (score.empty() && (kind.starts_with("glm4") || kind.starts_with("llama4")));
  gate.score = is_sigmoid ? GateScore::kSigmoid : GateScore::kSoftmax;
  gate.num_groups = read_int(text, {"n_group"}, 1);
  gate.topk_groups = read_int(text, {"topk_group"}, gate.num_groups);
  gate.normalise_weights = read_bool(text, "norm_topk_prob", !kind.starts_with("llama4"));
  if (const auto scale = find_set(text, {"routed_scaling_factor"}))
    gate.weight_scale = scale->number();
}

/// How often a layer of `layer_types` attends to everything; 1 when there is no such list.
int full_interval(const JsonRef& text) {
  const auto types = find_set(text, {"layer_types"});
  if (!types) return 1;
  const std::size_t count = types->array_size();
  std::size_t full = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const JsonRef type = (*types)[i];
    if (type.text() == "full_attention") ++full;
  }
  if (full == 0) types->reject("a list with a full_attention layer");
  return static_cast<int>(count / full);
}

void read_attention(const JsonRef& text, ModelConfig& model) {
  model.num_heads = read_int(text, {"num_attention_heads"});
  model.num_kv_heads = read_int(text, {"num_key_value_heads"}, model.num_heads);
  if (model.num_heads < 1) text.at("num_attention_heads").reject("1 or more");
  if (find_set(text, {"kv_lora_rank"})) {
    model.attention = AttentionKind::kLatent;
    model.q_lora_rank = read_int(text, {"q_lora_rank"}, 0);
    model.kv_lora_rank = read_int(text, {"kv_lora_rank"});
    model.qk_nope_head_dim = read_int(text, {"qk_nope_head_dim"});
    model.qk_rope_head_dim = read_int(text, {"qk_rope_head_dim"});
    model.v_head_dim = read_int(text, {"v_head_dim"});
  } else {
    model.head_dim = read_int(text, {"head_dim"}, model.hidden / model.num_heads);
  }
  model.sparse_topk = read_int(text, {"index_topk"}, 0);
  model.index_head_dim = model.sparse_topk > 0 ? read_int(text, {"index_head_dim"}, 0) : 0;
  model.full_attention_interval = read_int(text, {"full_attention_interval"}, full_interval(text));
  model.linear_key_heads = read_int(text, {"linear_num_key_heads"}, 0);
  model.linear_value_heads = read_int(text, {"linear_num_value_heads"}, 0);
  model.linear_head_dim = read_int(text, {"linear_value_head_dim"}, 0);
  // OLMoE has such norms, but no field that says so.
  model.wide_qk_norm = read_text(text, {"qk_norm_type"}) == "per_layer" ||
                       read_text(text, {"model_type"}) == "olmoe";
  model.attention_gate = read_bool(text, "attn_output_gate", false);
  if (read_bool(text, "use_sliding_window", true)) {
    model.sliding_window = read_int(text, {"sliding_window"}, 0);
  }
  if (const auto chunk = find_set(text, {"attention_chunk_size"})) {
    // Llama 4: chunks of the context, but for every fourth layer, which has no positions.
    model.sliding_window = static_cast<int>(chunk->integer(1, kMaxInt));
    model.full_attention_interval = read_int(text, {"no_rope_layer_interval"}, 4);
  }
  if (model.full_attention_interval == 1) model.sliding_window = 0;
}

}  // namespace

ModelConfig parse_model_config(std::string_view text, std::string_view file, std::string name) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  const auto nested = find_set(root, {"text_config"});
  const JsonRef& language = nested ? *nested : root;
  ModelConfig model;
  model.name = std::move(name);
  model.hidden = read_int(language, {"hidden_size"});
  model.num_layers = read_int(language, {"num_hidden_layers"});
  read_experts(language, model);
  read_gate(language, model);
  read_attention(language, model);
  read_types(root, language, model);
  model.vocab_size = read_int(language, {"vocab_size"});
  model.max_position = read_int(language, {"max_position_embeddings"});
  model.tied_embeddings = read_bool(language, "tie_word_embeddings",
                                    nested ? read_bool(root, "tie_word_embeddings", false) : false);
  ModelConfig nameless = model;
  nameless.name.clear();
  try {
    nameless.validate();
  } catch (const Error& error) {
    fail(file, error.what());
  }
  return model;
}

ModelConfig load_model_config(const std::filesystem::path& path) {
  const FileBytes file(path);
  std::string name = path.stem().string();
  // "Qwen--Qwen3-30B-A3B.json" is an HF id; ".../Qwen3-30B-A3B/config.json" is how HF keeps it.
  if (name == "config" && path.has_parent_path()) name = path.parent_path().filename().string();
  if (const auto at = name.find("--"); at != std::string::npos) name.erase(0, at + 2);
  return parse_model_config(as_text(file.bytes()), path.string(), std::move(name));
}

}  // namespace metro::io
