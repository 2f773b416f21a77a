// SPDX-License-Identifier: Apache-2.0
// config.json: what architectures call the same thing, and every fault's line.
#include "io/model_file.hpp"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "metro/error.hpp"

namespace metro::io {
namespace {

using nlohmann::json;

json small_config() {
  return {{"hidden_size", 64},           {"num_hidden_layers", 4},
          {"num_attention_heads", 8},    {"num_key_value_heads", 2},
          {"num_experts", 16},           {"num_experts_per_tok", 2},
          {"moe_intermediate_size", 32}, {"intermediate_size", 128},
          {"vocab_size", 100},           {"max_position_embeddings", 4096},
          {"torch_dtype", "bfloat16"}};
}

ModelConfig parse(const json& config) { return parse_model_config(config.dump(), "c.json", "m"); }

std::string fault(const json& config) {
  try {
    parse(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInput);
    return error.what();
  }
  return "no error";
}

json with(const char* key, const json& value) {
  json config = small_config();
  config[key] = value;
  return config;
}

TEST(ModelFile, ReadsAPlainConfig) {
  const ModelConfig model = parse(small_config());
  EXPECT_EQ(model.name, "m");
  EXPECT_EQ(model.head_dim, 8) << "hidden / heads where the file has none";
  EXPECT_EQ(model.num_moe_layers(), 4);
  EXPECT_EQ(model.weights, DataType::kBf16);
  EXPECT_EQ(model.sliding_window, 0);
}

TEST(ModelFile, ReadsTheLanguagePartOfAMultimodalConfig) {
  json config = {{"text_config", small_config()}, {"tie_word_embeddings", true}};
  EXPECT_EQ(parse(config).hidden, 64);
  EXPECT_TRUE(parse(config).tied_embeddings);
}

TEST(ModelFile, ReadsQuantizedWeights) {
  const auto weights = [](const json& quantization) {
    return parse(with("quantization_config", quantization)).weights;
  };
  EXPECT_EQ(weights({{"quant_method", "fp8"}}), DataType::kFp8);
  EXPECT_EQ(weights({{"quant_method", "mxfp4"}}), DataType::kFp4);
  EXPECT_EQ(weights({{"quant_method", "gptq"}, {"bits", 4}}), DataType::kFp4);
  EXPECT_EQ(weights({{"quant_method", "modelopt"}, {"quant_algo", "NVFP4"}}), DataType::kFp4);
  const json group = {{"weights", {{"num_bits", 4}}}};
  EXPECT_EQ(weights({{"quant_method", "compressed-tensors"}, {"config_groups", {{"g", group}}}}),
            DataType::kFp4);
  const ModelConfig wide =
      parse(with("quantization_config",
                 {{"quant_method", "mxfp4"}, {"modules_to_not_convert", {"a.self_attn"}}}));
  EXPECT_EQ(wide.dense_weights, DataType::kBf16);
}

TEST(ModelFile, ReadsNullAsAbsent) {
  EXPECT_EQ(parse(with("sliding_window", nullptr)).sliding_window, 0);
  EXPECT_EQ(parse(with("quantization_config", nullptr)).weights, DataType::kBf16);
}

TEST(ModelFile, NamesEveryFault) {
  json dense = small_config();
  dense.erase("num_experts");
  EXPECT_EQ(fault(dense),
            "c.json: has no experts (n_routed_experts, num_experts or num_local_experts), must be "
            "the config of a mixture-of-experts model");
  json short_one = small_config();
  short_one.erase("hidden_size");
  EXPECT_EQ(fault(short_one), "c.json: hidden_size is missing");
  EXPECT_EQ(fault(json{{"text_config", json::object()}}),
            "c.json: text_config.hidden_size is missing");
  EXPECT_EQ(fault(with("hidden_size", "64")),
            "c.json: hidden_size is '64', must be an integer 0..2147483647");
  EXPECT_EQ(fault(with("num_experts_per_tok", 17)), "c.json: topk is 17, must be 1..16");
  EXPECT_EQ(fault(with("num_attention_heads", 0)),
            "c.json: num_attention_heads is 0, must be 1 or more");
  EXPECT_EQ(fault(with("num_key_value_heads", 3)),
            "c.json: num_kv_heads is 3, must divide num_heads (8)");
  EXPECT_EQ(fault(with("torch_dtype", "int3")),
            "c.json: torch_dtype is 'int3', must be float32, bfloat16 or float16");
  EXPECT_EQ(fault(with("quantization_config", {{"quant_method", "magic"}})),
            "c.json: quantization_config.quant_method is 'magic', must be fp8, mxfp4, nvfp4, "
            "compressed-tensors, or a method that gives its bits");
  EXPECT_EQ(fault(with("quantization_config", {{"bits", 3}})),
            "c.json: quantization_config.bits is 3, must be 4, 8 or 16");
  EXPECT_EQ(fault(with("layer_types", json::array({"sliding_attention"}))),
            "c.json: layer_types is an array, must be a list with a full_attention layer");
  EXPECT_EQ(fault(with("norm_topk_prob", 1)), "c.json: norm_topk_prob is 1, must be true or false");
  EXPECT_EQ(fault(json::array()), "c.json: the document is an array, must be an object");
}

}  // namespace
}  // namespace metro::io
