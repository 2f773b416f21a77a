// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "io/calibration_file.hpp"
#include "metro/io.hpp"

namespace metro::io {
namespace {

/// In quotes, escaped; bytes that are not UTF-8 become U+FFFD.
std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string pairs(const std::vector<std::pair<std::int64_t, double>>& values) {
  std::vector<std::string> texts;
  for (const auto& [x, us] : values) texts.push_back(fmt::format("[{}, {}]", x, us));
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

/// "key": [ one element a line ], with a comma before it.
void append_list(std::string& out, std::string_view indent, std::string_view key,
                 const std::vector<std::string>& elements) {
  if (elements.empty()) return;
  const std::string separator = fmt::format(",\n{}  ", indent);
  fmt::format_to(std::back_inserter(out), ",\n{}\"{}\": [\n{}  {}\n{}]", indent, key, indent,
                 fmt::join(elements, separator), indent);
}

std::string format_expert(const Calibration::ExpertTime& expert) {
  std::string out = fmt::format(
      "{{\"hidden\": {}, \"intermediate\": {}, \"dtype\": \"{}\", \"base_us\": {},\n"
      "     \"phi_us\": {}",
      expert.hidden, expert.intermediate, data_type_name(expert.weights), expert.base_us,
      pairs(expert.phi_us));
  if (!expert.points.empty()) {
    fmt::format_to(std::back_inserter(out), ",\n     \"median_error\": {}", expert.median_error);
    std::vector<std::string> points;
    for (const Calibration::ExpertPoint& point : expert.points) {
      points.push_back(
          fmt::format("{{\"activated\": {}, \"tokens\": {}, \"skew\": {}, \"us\": {}}}",
                      point.activated, point.tokens, point.skew, point.us));
    }
    append_list(out, "     ", "points", points);
  }
  return out + "}";
}

std::string format_collective(const Calibration::Collective& collective) {
  std::string out = fmt::format("{{\"name\": {}, \"gpus\": {}, \"alpha_us\": {}, \"beta_gb_s\": {}",
                                json_string(collective.name), collective.gpus, collective.alpha_us,
                                collective.beta_gb_s);
  if (!collective.points.empty()) {
    fmt::format_to(std::back_inserter(out), ",\n     \"median_error\": {}, \"points\": {}",
                   collective.median_error, pairs(collective.points));
  }
  return out + "}";
}

std::string format_engine(const Calibration::Engine& engine) {
  return fmt::format(
      "{{\"name\": {}, \"kernel_scale\": {}, \"collective_scale\": {}, \"layer_us\": {}, "
      "\"step_us\": {}, \"prefill_layer_us\": {}, \"quantise_us\": {}, \"row_bytes\": {}, "
      "\"prefill_attention\": {}, \"shared_exposed\": {}, \"first_token_us\": {}, "
      "\"clumping\": {}, \"mixes_prefill\": {}}}",
      json_string(engine.name), engine.kernel_scale, engine.collective_scale, engine.layer_us,
      engine.step_us, engine.prefill_layer_us, engine.quantise_us, engine.row_bytes,
      engine.prefill_attention, engine.shared_exposed, engine.first_token_us, engine.clumping,
      engine.mixes_prefill);
}

template <typename Values, typename Format>
std::vector<std::string> format_each(const Values& values, Format&& format) {
  std::vector<std::string> texts;
  for (const auto& value : values) texts.push_back(format(value));
  return texts;
}

}  // namespace

std::string format_calibration(const Calibration& calibration) {
  calibration.validate();
  std::string out =
      fmt::format("{{\n  \"format\": \"metro-calibration\",\n  \"version\": {},\n  \"gpu\": {}",
                  kCalibrationVersion, json_string(calibration.gpu));
  const auto add = [&out](std::string_view key, const std::string& value) {
    fmt::format_to(std::back_inserter(out), ",\n  \"{}\": {}", key, value);
  };
  if (!calibration.device.empty()) add("device", json_string(calibration.device));
  if (calibration.copy_gb_s > 0) add("copy_gb_s", fmt::format("{}", calibration.copy_gb_s));
  if (calibration.gemm_tflops > 0) add("gemm_tflops", fmt::format("{}", calibration.gemm_tflops));
  if (!calibration.router_us.empty()) {
    const auto routers = format_each(calibration.router_us, [](const auto& router) {
      return fmt::format("{}: {}", json_string(router.first), router.second);
    });
    add("router_us", fmt::format("{{{}}}", fmt::join(routers, ", ")));
  }
  append_list(out, "  ", "collectives", format_each(calibration.collectives, format_collective));
  append_list(out, "  ", "engines", format_each(calibration.engines, format_engine));
  append_list(out, "  ", "experts", format_each(calibration.experts, format_expert));
  return out + "\n}\n";
}

}  // namespace metro::io
