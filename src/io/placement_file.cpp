// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <iterator>
#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "io/parse.hpp"
#include "metro/error.hpp"

namespace metro::io {
namespace {

/// Version 2 has `shards`: what is placed on is groups of GPUs, which a reader of version 1 would
/// take for GPUs.
constexpr int kPlacementVersion = 2;

/// Slots, experts and GPUs: all 0..max here, their own ranges are LayerPlacement::validate's to
/// name.
std::vector<std::int32_t> read_indices(const JsonRef& array) {
  const std::size_t count = array.array_size();
  std::vector<std::int32_t> indices;
  indices.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    indices.push_back(
        static_cast<std::int32_t>(array[i].integer(0, std::numeric_limits<std::int32_t>::max())));
  }
  return indices;
}

/// In memory an empty vector means "left out"; a file that has the key means more than that.
[[noreturn]] void reject_empty(const JsonRef& array, std::string_view wanted) {
  fail(array.file(), fmt::format("{} is empty, must have {} or be left out", array.path(), wanted));
}

LayerPlacement read_layer(const JsonRef& layer, int num_experts, int num_gpus) {
  LayerPlacement placement{num_experts, num_gpus, {}, {}, {}, {}};
  const JsonRef experts = layer.at("replica_to_expert");
  const std::size_t replicas = experts.array_size();
  if (replicas > static_cast<std::size_t>(kMaxReplicas)) {
    fail(layer.file(), fmt::format("{} has {} slots, at most {} are supported", experts.path(),
                                   replicas, kMaxReplicas));
  }
  placement.replica_to_expert = read_indices(experts);
  if (const auto gpus = layer.find("replica_to_gpu")) {
    placement.replica_to_gpu = read_indices(*gpus);
  } else if (replicas % static_cast<std::size_t>(num_gpus) == 0) {
    placement.replica_to_gpu = contiguous_gpus(placement.num_replicas(), num_gpus);
  } else {
    fail(
        layer.file(),
        fmt::format("{}.replica_to_gpu is missing, it may be left out only when the GPUs share the "
                    "slots equally ({} slots, {} GPUs)",
                    layer.path(), replicas, num_gpus));
  }
  if (const auto home = layer.find("home")) {
    placement.home = read_indices(*home);
    if (placement.home.empty()) reject_empty(*home, "one slot per expert");
  }
  if (const auto shares = layer.find("shares")) {
    const std::size_t count = shares->array_size();
    if (count == 0) reject_empty(*shares, "one weight per slot");
    placement.shares.reserve(count);
    for (std::size_t i = 0; i < count; ++i) placement.shares.push_back((*shares)[i].number());
  }
  return placement;
}

template <typename T>
void append_array(std::string& out, const char* key, const std::vector<T>& values) {
  fmt::format_to(std::back_inserter(out), ",\n      \"{}\": [{}]", key, fmt::join(values, ", "));
}

}  // namespace

Placement parse_placement(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-placement", kPlacementVersion, true);
  Placement placement;
  placement.num_experts = static_cast<int>(root.at("num_experts").integer(1, kMaxExperts));
  placement.num_gpus = static_cast<int>(root.at("num_gpus").integer(1, kMaxGpus));
  const bool has_groups = root.at("version").integer(1, kPlacementVersion) >= 2;
  if (has_groups) {
    placement.shards = static_cast<int>(root.at("shards").integer(1, kMaxGpus));
  } else if (const auto shards = root.find("shards")) {
    fail(file, fmt::format("shards is {}, but version 1 has none: must be left out, or version 2",
                           shards->value_text()));
  }
  const JsonRef layers = root.at("layers");
  const std::size_t num_layers = layers.array_size();
  for (std::size_t i = 0; i < num_layers; ++i) {
    const JsonRef layer = layers[i];
    placement.layers.push_back(read_layer(layer, placement.num_experts, placement.num_gpus));
  }
  try {
    placement.validate();
  } catch (const Error& error) {
    fail(file, error.what());
  }
  return placement;
}

Placement read_placement(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_placement(as_text(file.bytes()), path.string());
}

std::string format_placement(const Placement& placement) {
  placement.validate();
  const bool has_groups = placement.shards > 1;  // else older readers read it as well
  std::string out = fmt::format(
      "{{\n  \"format\": \"metro-placement\",\n  \"version\": {},\n  \"num_experts\": {},\n"
      "  \"num_gpus\": {},\n",
      has_groups ? kPlacementVersion : 1, placement.num_experts, placement.num_gpus);
  if (has_groups) {
    fmt::format_to(std::back_inserter(out), "  \"shards\": {},\n", placement.shards);
  }
  out += "  \"layers\": [";
  const char* separator = "\n";
  for (const LayerPlacement& layer : placement.layers) {
    fmt::format_to(std::back_inserter(out), "{}    {{\n      \"replica_to_expert\": [{}]",
                   separator, fmt::join(layer.replica_to_expert, ", "));
    append_array(out, "replica_to_gpu", layer.replica_to_gpu);
    if (!layer.home.empty()) append_array(out, "home", layer.home);
    if (!layer.shares.empty()) append_array(out, "shares", layer.shares);
    out += "\n    }";
    separator = ",\n";
  }
  out += "\n  ]\n}\n";
  return out;
}

}  // namespace metro::io
