// SPDX-License-Identifier: Apache-2.0
// The registry of models and GPUs: names, and shapes against the config.json files at hand.
#include "metro/model.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "metro/error.hpp"
#include "metro/gpu.hpp"
#include "metro/io.hpp"

namespace metro {
namespace {

namespace fs = std::filesystem;

TEST(ModelRegistry, EveryEntryIsValidAndFindsItself) {
  std::set<std::string_view> seen;
  for (const std::string_view name : model_names()) {
    const ModelConfig* model = find_model(name);
    ASSERT_NE(model, nullptr) << name;
    EXPECT_EQ(model->name, name);
    EXPECT_NO_THROW(model->validate()) << name;
    EXPECT_TRUE(seen.insert(name).second) << name << " stands twice";
  }
  EXPECT_GE(seen.size(), 17U);
}

TEST(ModelRegistry, KnowsNamesIdsStemsAndReleases) {
  const auto finds = [](std::string_view name, std::string_view model) {
    const ModelConfig* found = find_model(name);
    return found != nullptr && found->name == model;
  };
  EXPECT_TRUE(finds("qwen3-30b-a3b", "Qwen3-30B-A3B"));
  EXPECT_TRUE(finds("Qwen/Qwen3-235B-A22B-FP8", "Qwen3-235B-A22B"));
  EXPECT_TRUE(finds("Qwen--Qwen3-30B-A3B", "Qwen3-30B-A3B"));
  EXPECT_TRUE(finds("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen3-30B-A3B"));
  EXPECT_TRUE(finds("DeepSeek-R1", "DeepSeek-V3"));
  EXPECT_TRUE(finds("deepseek-ai/DeepSeek-V3.1", "DeepSeek-V3"));
  EXPECT_TRUE(finds("nvidia/DeepSeek-R1-0528-FP4-v2", "DeepSeek-V3"));
  EXPECT_TRUE(finds("MiniMaxAI/MiniMax-M2.5", "MiniMax-M2"));
  EXPECT_TRUE(finds("openai/gpt-oss-120b", "gpt-oss-120b"));
  EXPECT_EQ(find_model("GLM-4.5-Air"), nullptr) << "another shape";
  EXPECT_EQ(find_model(""), nullptr);
  EXPECT_EQ(find_model("-FP8"), nullptr);
}

/// Facts of the paper's and peers' tables: layers with experts, bytes of one expert in bf16.
TEST(ModelRegistry, CountsLayersAndParameters) {
  EXPECT_EQ(find_model("DeepSeek-V3")->num_moe_layers(), 58);
  EXPECT_EQ(find_model("Kimi-K2")->num_moe_layers(), 60);
  EXPECT_EQ(find_model("Llama-4-Maverick")->num_moe_layers(), 24);
  EXPECT_FALSE(find_model("DeepSeek-V3")->is_moe_layer(2));
  EXPECT_TRUE(find_model("DeepSeek-V3")->is_moe_layer(3));
  EXPECT_FALSE(find_model("DeepSeek-V3")->is_moe_layer(61));
  EXPECT_FALSE(find_model("Llama-4-Maverick")->is_moe_layer(0));
  EXPECT_TRUE(find_model("Llama-4-Maverick")->is_moe_layer(1));
  EXPECT_EQ(find_model("Qwen3-235B")->expert_parameters() * 2, 37748736);
}

TEST(ModelRegistry, MoeLayersAreAsManyAsCounted) {
  for (const std::string_view name : model_names()) {
    const ModelConfig& model = *find_model(name);
    int layers = 0;
    for (int layer = -1; layer <= model.num_layers; ++layer) layers += model.is_moe_layer(layer);
    EXPECT_EQ(layers, model.num_moe_layers()) << name;
  }
}

TEST(ModelRegistry, EqualsTheConfigFilesAtHand) {
  const fs::path folder = fs::path(METRO_SOURCE_DIR) / "../shared/data/models";
  if (!fs::is_directory(folder)) GTEST_SKIP() << "no ../shared/data beside the source";
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    ModelConfig read = io::load_model_config(entry.path());
    const ModelConfig* known = find_model(entry.path().stem().string());
    ASSERT_NE(known, nullptr) << entry.path();
    EXPECT_EQ(known, find_model(read.name));
    read.name = known->name;
    // Not in the registry: widths of dense layers in models that have none.
    if (known->num_moe_layers() == known->num_layers)
      read.dense_intermediate = known->dense_intermediate;
    EXPECT_EQ(read, *known) << entry.path();
    ++files;
  }
  EXPECT_EQ(files, 16);
}

TEST(DataTypes, NamesAndBytes) {
  EXPECT_EQ(find_data_type("NVFP4"), DataType::kFp4);
  EXPECT_EQ(find_data_type("bfloat16"), DataType::kBf16);
  EXPECT_EQ(find_data_type("fp8_block"), DataType::kFp8);
  EXPECT_EQ(find_data_type("fp3"), std::nullopt);
  for (const auto type : {DataType::kFloat32, DataType::kBf16, DataType::kFp8, DataType::kFp4}) {
    EXPECT_EQ(find_data_type(data_type_name(type)), type);
  }
  EXPECT_DOUBLE_EQ(bytes_per_value(DataType::kFp4), 17.0 / 32);
}

TEST(Gpus, AreFoundByTheNamesOfTheCommandLine) {
  for (const char* name : {"a100-40g", "a100", "h100", "h200", "h800", "h20", "b200", "b300",
                           "gb200", "mi300x", "H100_SXM", "b200_sxm", "A100-SXM"}) {
    EXPECT_NE(find_gpu(name), nullptr) << name;
  }
  EXPECT_EQ(find_gpu("a100_sxm"), find_gpu("A100"));
  EXPECT_EQ(find_gpu("a100_40g")->memory_bytes, 40e9);
  EXPECT_EQ(find_gpu("_sxm"), nullptr);
  EXPECT_EQ(find_gpu("v100"), nullptr);
  for (const std::string_view name : gpu_names()) EXPECT_EQ(find_gpu(name)->name, name);
}

TEST(Gpus, AreFoundInADriversName) {
  EXPECT_EQ(find_gpu_of_device("NVIDIA H100 80GB HBM3")->name, "H100");
  EXPECT_EQ(find_gpu_of_device("NVIDIA H200")->name, "H200") << "no H20";
  EXPECT_EQ(find_gpu_of_device("NVIDIA H20")->name, "H20");
  EXPECT_EQ(find_gpu_of_device("NVIDIA GB200")->name, "GB200") << "no B200";
  EXPECT_EQ(find_gpu_of_device("NVIDIA A100-SXM4-80GB")->name, "A100");
  EXPECT_EQ(find_gpu_of_device("Tesla V100"), nullptr);
}

TEST(Gpus, MultiplyNarrowWeightsOnTheNextWiderUnit) {
  EXPECT_EQ(find_gpu("a100")->flops(DataType::kFp8), 312e12);
  EXPECT_EQ(find_gpu("h100")->flops(DataType::kFp8), 1979e12);
  EXPECT_EQ(find_gpu("h100")->flops(DataType::kFp4), 989e12);
  EXPECT_EQ(find_gpu("b200")->flops(DataType::kFp4), 9000e12);
}

}  // namespace
}  // namespace metro
