// SPDX-License-Identifier: Apache-2.0
#include "io/constants_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <span>

#include "io/json_reader.hpp"

namespace metro::io {
namespace {

constexpr double kGiga = 1e9;
constexpr double kTera = 1e12;

/// For objects with fields that may be left out: there a misspelt one would go unnoticed.
void refuse_other_keys(const JsonRef& object, std::initializer_list<std::string_view> keys) {
  if (!object.value().is_object()) object.reject("an object");
  for (const auto& [key, unused] : object.value().items()) {
    if (std::ranges::find(keys, key) != keys.end()) continue;
    const JsonRef member = object.at(key.c_str());
    member.reject("left out: no such field is known");
  }
}

double number_in(const JsonRef& object, const char* key, double min, double max) {
  const JsonRef value = object.at(key);
  const double number = value.number();
  if (!(number >= min && number <= max)) value.reject(fmt::format("in {}..{}", min, max));
  return number;
}

int integer_in(const JsonRef& object, const char* key, int min, int max) {
  return static_cast<int>(object.at(key).integer(min, max));
}

bool boolean(const JsonRef& object, const char* key) {
  const JsonRef value = object.at(key);
  if (!value.value().is_boolean()) value.reject("true or false");
  return value.value().get<bool>();
}

std::string name_of(const JsonRef& value) {
  std::string name = value.text();
  if (name.empty() || name.size() > 64) value.reject("1 to 64 characters");
  return name;
}

struct Word {
  std::string_view name;
  int value;
};

/// The value that the member's word stands for.
template <typename Enum>
Enum one_of(const JsonRef& object, const char* key, std::span<const Word> words) {
  const JsonRef member = object.at(key);
  const std::string text = member.text();
  std::string wanted = "one of ";
  for (const Word& word : words) {
    if (word.name == text) return static_cast<Enum>(word.value);
    wanted += fmt::format("{}'{}'", wanted.ends_with("'") ? ", " : "", word.name);
  }
  member.reject(wanted);
}

/// Words of an enum whose values are 0..count-1.
template <typename Enum, typename Name>
std::vector<Word> words_of(int count, Name name) {
  std::vector<Word> words;
  for (int i = 0; i < count; ++i) words.push_back({name(static_cast<Enum>(i)), i});
  return words;
}

Architecture architecture(const JsonRef& object) {
  return one_of<Architecture>(object, "architecture", words_of<Architecture>(3, architecture_name));
}

DataType dtype(const JsonRef& object, const char* key) {
  return one_of<DataType>(object, key, words_of<DataType>(4, data_type_name));
}

/// "" stands for "all": no engine has that name.
std::string engine(const JsonRef& object) {
  const JsonRef member = object.at("engine");
  std::string name = name_of(member);
  return name == "all" ? "" : name;
}

/// Calls `read` for each element of the array `key`, which has at least one.
template <typename Read>
void for_each_row(const JsonRef& root, const char* key, Read read) {
  const JsonRef array = root.at(key);
  const std::size_t count = array.array_size();
  if (count == 0) array.reject("an array with an element");
  for (std::size_t i = 0; i < count; ++i) {
    const JsonRef element = array[i];
    read(element);
  }
}

template <typename Record, typename Read>
std::vector<Record> records(const JsonRef& root, const char* key, Read read) {
  std::vector<Record> records;
  for_each_row(root, key, [&](const JsonRef& row) { records.push_back(read(row)); });
  return records;
}

void read_gpu(const JsonRef& object, GpuList& list) {
  refuse_other_keys(
      object, {"name", "aliases", "device", "memory_gb", "memory_tb_s", "bf16_tflops", "fp8_tflops",
               "fp4_tflops", "link_gb_s", "gpus_per_domain", "internode_gb_s", "source"});
  const JsonRef name = object.at("name");
  if (list.find(name_of(name)) != nullptr) name.reject("a name that no GPU before it has");
  GpuList::Entry& gpu = list.gpus.emplace_back(name_of(name));
  gpu.spec.name = gpu.name;
  gpu.device = gpu.name;
  gpu.spec.memory_bytes = number_in(object, "memory_gb", 1, 1e5) * kGiga;
  gpu.spec.memory_bytes_per_s = number_in(object, "memory_tb_s", 0.01, 1e3) * kTera;
  gpu.spec.bf16_flops = number_in(object, "bf16_tflops", 1, 1e6) * kTera;
  gpu.spec.fp8_flops = number_in(object, "fp8_tflops", 0, 1e6) * kTera;
  gpu.spec.fp4_flops = number_in(object, "fp4_tflops", 0, 1e6) * kTera;
  gpu.spec.link_bytes_per_s = number_in(object, "link_gb_s", 1, 1e5) * kGiga;
  gpu.spec.gpus_per_domain = integer_in(object, "gpus_per_domain", 1, 4096);
  gpu.spec.internode_bytes_per_s = number_in(object, "internode_gb_s", 1, 1e5) * kGiga;
  if (const auto device = object.find("device")) gpu.device = name_of(*device);
  if (const auto aliases = object.find("aliases")) {
    const std::size_t count = aliases->array_size();
    for (std::size_t i = 0; i < count; ++i) {
      const JsonRef alias = (*aliases)[i];
      gpu.aliases.push_back(name_of(alias));
    }
  }
}

/// A number of an engine: its bounds hold what any engine could need, and keep every time finite.
struct EngineField {
  const char* key;
  double Calibration::Engine::* value;
  double min;
  double max;
};

constexpr std::array kEngineFields = {
    EngineField{"kernel_scale", &Calibration::Engine::kernel_scale, 0.01, 100},
    EngineField{"collective_scale", &Calibration::Engine::collective_scale, 0.01, 100},
    EngineField{"layer_us", &Calibration::Engine::layer_us, 0, 1e6},
    EngineField{"step_us", &Calibration::Engine::step_us, 0, 1e7},
    EngineField{"prefill_layer_us", &Calibration::Engine::prefill_layer_us, 0, 1e6},
    EngineField{"quantise_us", &Calibration::Engine::quantise_us, 0, 1e4},
    EngineField{"row_bytes", &Calibration::Engine::row_bytes, 0, 1e5},
    EngineField{"prefill_attention", &Calibration::Engine::prefill_attention, 0.001, 1},
    EngineField{"shared_exposed", &Calibration::Engine::shared_exposed, 0, 1},
    EngineField{"first_token_us", &Calibration::Engine::first_token_us, 0, 1e8},
    EngineField{"clumping", &Calibration::Engine::clumping, 0, 100},
};

Calibration::Engine read_engine_numbers(const JsonRef& object) {
  Calibration::Engine engine;
  for (const EngineField& field : kEngineFields) {
    engine.*field.value = number_in(object, field.key, field.min, field.max);
  }
  engine.mixes_prefill = boolean(object, "mixes_prefill");
  return engine;
}

Calibration::Engine read_named_engine(const JsonRef& object) {
  Calibration::Engine engine = read_engine_numbers(object);
  const JsonRef name = object.at("name");
  engine.name = name_of(name);
  return engine;
}

Roofline read_roofline(const JsonRef& object) {
  return {number_in(object, "fixed_us", 0, 1e4), number_in(object, "memory_efficiency", 0.001, 1),
          number_in(object, "compute_efficiency", 0.001, 1), number_in(object, "sharpness", 1, 8)};
}

KernelConstants::Gemm read_gemm(const JsonRef& object) {
  return {architecture(object), dtype(object, "dtype"), read_roofline(object)};
}

KernelConstants::Attention read_attention(const JsonRef& object) {
  constexpr std::array kinds = {Word{"grouped", static_cast<int>(AttentionKind::kGrouped)},
                                Word{"latent", static_cast<int>(AttentionKind::kLatent)}};
  return {architecture(object), engine(object), one_of<AttentionKind>(object, "kind", kinds),
          dtype(object, "kv_dtype"), read_roofline(object)};
}

KernelConstants::Expert read_expert(const JsonRef& object) {
  return {
      architecture(object), engine(object), dtype(object, "dtype"),
      ExpertKernel{number_in(object, "base_us", 0, 1e4), number_in(object, "replica_us", 0, 1e4),
                   number_in(object, "memory_efficiency", 0.001, 1),
                   number_in(object, "compute_efficiency", 0.001, 1),
                   number_in(object, "row_bytes", 0, 1e4), number_in(object, "token_bytes", 0, 1e4),
                   number_in(object, "sharpness", 1, 8)}};
}

KernelConstants::CollectiveTime read_collective(const JsonRef& object) {
  return {
      architecture(object),
      one_of<Collective>(object, "collective", words_of<Collective>(6, collective_name)),
      integer_in(object, "gpus", 2, 4096), number_in(object, "link_gb_s", 1, 1e5) * kGiga,
      AlphaBeta{number_in(object, "alpha_us", 0, 1e6), number_in(object, "beta_gb_s", 0.01, 1e5)}};
}

}  // namespace

GpuList parse_gpus(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-gpus", kConstantsVersion, true);
  GpuList list;
  for_each_row(root, "gpus", [&](const JsonRef& row) { read_gpu(row, list); });
  return list;
}

EngineList parse_engines(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-engines", kConstantsVersion, true);
  const JsonRef average = root.at("average");
  return {records<Calibration::Engine>(root, "engines", read_named_engine),
          read_engine_numbers(average)};
}

KernelConstants parse_kernels(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-kernels", kConstantsVersion, true);
  return {records<KernelConstants::Gemm>(root, "gemm", read_gemm),
          records<KernelConstants::Attention>(root, "attention", read_attention),
          records<KernelConstants::Expert>(root, "experts", read_expert),
          records<KernelConstants::CollectiveTime>(root, "collectives", read_collective)};
}

}  // namespace metro::io
