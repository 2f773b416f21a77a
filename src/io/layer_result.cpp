// SPDX-License-Identifier: Apache-2.0
#include "io/layer_result.hpp"

#include <cmath>
#include <limits>
#include <utility>

#include "core/vocabulary.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "metro/placement.hpp"

namespace metro::io {
namespace {

constexpr int kResultVersion = 1;
constexpr int kMaxTokens = 1 << 16;
constexpr int kMaxBatches = 1 << 16;

/// A time above 0, or 0 for what was not measured.
double read_us(const JsonRef& value) {
  if (value.value().is_null()) return 0;
  const double us = value.number();
  if (!(us >= 0 && std::isfinite(us))) value.reject("a time in us, or null");
  return us;
}

LayerTiming read_row(const JsonRef& row) {
  LayerTiming timing;
  timing.model = row.at("model").text();
  const JsonRef dtype = row.at("dtype");
  const auto type = find_data_type(dtype.text());
  if (!type) dtype.reject("one of 'fp32', 'bf16', 'fp8', 'fp4'");
  timing.dtype = *type;
  timing.gpus = static_cast<int>(row.at("gpus").integer(1, kMaxGpus));
  timing.tokens_per_gpu = static_cast<int>(row.at("tokens_per_gpu").integer(1, kMaxTokens));
  const JsonRef replication = row.at("replication");
  timing.replication = replication.number();
  if (!(timing.replication >= 1 && timing.replication <= kMaxReplicas)) {
    replication.reject("at least 1");
  }
  timing.policy = row_policy(row.at("policy").text());
  timing.dispatch = row.at("dispatch").text();
  timing.emulated = row.at("evidence").text() == "emulated";
  const JsonRef layer = row.at("layer_us");
  timing.layer_us = read_us(layer);
  if (timing.layer_us == 0) layer.reject("a time in us above 0");
  const JsonRef stages = row.at("stage_us");
  timing.experts_us = read_us(stages.at("experts"));
  const JsonRef activated = row.at("activated_per_rank");
  const std::size_t ranks = activated.array_size();
  for (std::size_t i = 0; i < ranks; ++i) {
    const JsonRef rank = activated[i];
    timing.activated_per_rank.push_back(rank.number());
  }
  return timing;
}

}  // namespace

LayerTimings parse_layer_result(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-result", kResultVersion, true);
  const JsonRef command = root.at("command");
  if (command.text() != "bench layer") command.reject("'bench layer'");
  LayerTimings timings;
  timings.device = root.at("device").text();
  timings.algorithm = root.at("algorithm").text();
  timings.seed = static_cast<std::uint64_t>(
      root.at("seed").integer(0, std::numeric_limits<std::int64_t>::max()));
  timings.batches = static_cast<int>(root.at("batches").integer(1, kMaxBatches));
  const JsonRef inputs = root.at("inputs");
  const std::size_t num_inputs = inputs.array_size();
  for (std::size_t i = 0; i < num_inputs; ++i) {
    const JsonRef input = inputs[i];
    timings.inputs.push_back(input.at("path").text());
  }
  const JsonRef rows = root.at("rows");
  const std::size_t count = rows.array_size();
  if (count == 0) rows.reject("at least one row");
  for (std::size_t i = 0; i < count; ++i) {
    const JsonRef row = rows[i];
    // Sharded groups (docs/sharded-groups.md) are timed, and not yet predicted.
    const auto ep = row.find("ep");
    LayerTiming timing = read_row(row);
    if (ep && ep->integer(1, kMaxGpus) < timing.gpus && !is_moe_tp(timing.policy)) continue;
    timings.rows.push_back(std::move(timing));
  }
  if (timings.rows.empty()) rows.reject("at least one row without groups");
  return timings;
}

LayerTimings read_layer_result(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_layer_result(as_text(file.bytes()), path.string());
}

}  // namespace metro::io
