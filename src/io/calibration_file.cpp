// SPDX-License-Identifier: Apache-2.0
#include "io/calibration_file.hpp"

#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"

namespace metro::io {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;
constexpr std::int64_t kMaxInt = std::numeric_limits<std::int32_t>::max();

int read_int(const JsonRef& object, const char* key) {
  return static_cast<int>(object.at(key).integer(1, kMaxInt));
}

/// Leaves `value` as it is where the key is missing.
void read_optional(const JsonRef& object, const char* key, double& value) {
  if (const auto found = object.find(key)) value = found->number();
}

/// Calls `read` for each element of an array that may be left out.
template <typename Read>
void for_each_in(const JsonRef& root, const char* key, Read&& read) {
  const auto array = root.find(key);
  if (!array) return;
  const std::size_t count = array->array_size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonRef element = (*array)[i];
    read(element);
  }
}

Calibration::ExpertTime read_expert(const JsonRef& object) {
  Calibration::ExpertTime expert;
  expert.hidden = read_int(object, "hidden");
  expert.intermediate = read_int(object, "intermediate");
  const JsonRef dtype = object.at("dtype");
  const auto type = find_data_type(dtype.text());
  if (!type) dtype.reject("one of 'fp32', 'bf16', 'fp8', 'fp4'");
  expert.weights = *type;
  expert.base_us = object.at("base_us").number();
  const JsonRef points = object.at("phi_us");
  const std::size_t count = points.array_size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonRef point = points[i];
    if (point.array_size() != 2) point.reject("a [tokens, us] pair");
    const JsonRef tokens = point[0];
    const JsonRef us = point[1];
    expert.phi_us.emplace_back(tokens.integer(1, kMaxInt), us.number());
  }
  read_optional(object, "median_error", expert.median_error);
  for_each_in(object, "points", [&](const JsonRef& point) {
    expert.points.push_back({read_int(point, "activated"), read_int(point, "tokens"),
                             read_int(point, "skew"), point.at("us").number()});
  });
  return expert;
}

Calibration::Collective read_collective(const JsonRef& object) {
  Calibration::Collective collective{object.at("name").text(),
                                     read_int(object, "gpus"),
                                     object.at("alpha_us").number(),
                                     object.at("beta_gb_s").number(),
                                     {},
                                     0};
  read_optional(object, "median_error", collective.median_error);
  for_each_in(object, "points", [&](const JsonRef& point) {
    if (point.array_size() != 2) point.reject("a [bytes, us] pair");
    const JsonRef bytes = point[0];
    const JsonRef us = point[1];
    collective.points.emplace_back(bytes.integer(1, kMaxBytes), us.number());
  });
  return collective;
}

Calibration::Engine read_engine(const JsonRef& object) {
  Calibration::Engine engine;
  engine.name = object.at("name").text();
  read_optional(object, "kernel_scale", engine.kernel_scale);
  read_optional(object, "collective_scale", engine.collective_scale);
  read_optional(object, "layer_us", engine.layer_us);
  read_optional(object, "step_us", engine.step_us);
  read_optional(object, "prefill_layer_us", engine.prefill_layer_us);
  read_optional(object, "quantise_us", engine.quantise_us);
  read_optional(object, "row_bytes", engine.row_bytes);
  read_optional(object, "prefill_attention", engine.prefill_attention);
  read_optional(object, "shared_exposed", engine.shared_exposed);
  read_optional(object, "first_token_us", engine.first_token_us);
  read_optional(object, "clumping", engine.clumping);
  if (const auto mixes = object.find("mixes_prefill")) {
    if (!mixes->value().is_boolean()) mixes->reject("true or false");
    engine.mixes_prefill = mixes->value().get<bool>();
  }
  return engine;
}

}  // namespace

Calibration parse_calibration(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-calibration", kCalibrationVersion, true);
  Calibration calibration;
  calibration.gpu = root.at("gpu").text();
  if (const auto device = root.find("device")) calibration.device = device->text();
  read_optional(root, "copy_gb_s", calibration.copy_gb_s);
  read_optional(root, "gemm_tflops", calibration.gemm_tflops);
  for_each_in(root, "experts",
              [&](const JsonRef& e) { calibration.experts.push_back(read_expert(e)); });
  for_each_in(root, "collectives",
              [&](const JsonRef& e) { calibration.collectives.push_back(read_collective(e)); });
  for_each_in(root, "engines",
              [&](const JsonRef& e) { calibration.engines.push_back(read_engine(e)); });
  if (const auto routers = root.find("router_us")) {
    if (!routers->value().is_object()) routers->reject("an object of policies and times");
    for (const auto& [policy, unused] : routers->value().items()) {
      calibration.router_us.emplace_back(policy, routers->at(policy.c_str()).number());
    }
  }
  try {
    calibration.validate();
  } catch (const Error& error) {
    fail(file, error.what());
  }
  return calibration;
}

Calibration read_calibration(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_calibration(as_text(file.bytes()), path.string());
}

}  // namespace metro::io
