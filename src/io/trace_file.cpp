// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <system_error>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/ids.hpp"
#include "io/json_reader.hpp"
#include "io/npy.hpp"
#include "io/parse.hpp"
#include "io/sha256.hpp"
#include "metro/placement.hpp"

namespace metro::io {
namespace {

constexpr int kTraceVersion = 1;

IdArray parse_ids(Bytes npy, std::string_view file) {
  const NpyArray array = parse_npy(npy, file);
  require_integers(array, file);
  require_dims(array, 3, "(tokens, layers, topk)", file);
  constexpr std::int64_t kMaxInt = std::numeric_limits<int>::max();
  if (array.count == 0) {
    fail(file,
         fmt::format("shape is {}, each dimension must be at least 1", shape_text(array.shape)));
  }
  if (array.shape[1] > kMaxInt || array.shape[2] > kMaxInt) {
    fail(file, fmt::format("shape is {}, must have at most {} layers and topk",
                           shape_text(array.shape), kMaxInt));
  }
  return {array.data, array.type, array.shape[0], static_cast<int>(array.shape[1]),
          static_cast<int>(array.shape[2])};
}

/// Sidecars of other tools use "format" for words of their own; only ours is held to a version.
void check_sidecar_format(const JsonRef& root) {
  const auto format = root.find("format");
  if (!format || !format->value().is_string() || !format->text().starts_with("metro-")) return;
  check_format(root, "metro-trace", kTraceVersion, true);
}

/// A dimension that the sidecar may repeat must be that of the array.
void check_repeated(const JsonRef& root, const char* key, int in_array, std::string_view npy) {
  const auto repeated = root.find(key);
  if (!repeated) return;
  if (repeated->integer(1, std::numeric_limits<int>::max()) != in_array) {
    repeated->reject(fmt::format("{} as in {}", in_array, npy));
  }
}

/// The two files of a trace are of one write when the sidecar's digest, where it has one, is that
/// of the array.
void check_digest(const JsonRef& root, Bytes npy, std::string_view file) {
  const auto wanted = root.find("npy_sha256");
  if (!wanted) return;
  Sha256 hash;
  hash.update(npy);
  const std::string digest = hash.finish();
  if (wanted->text() == digest) return;
  wanted->reject(
      fmt::format("{} as {} has: the two were not written together (remove the key if "
                  "the array was changed on purpose)",
                  quote(digest), file));
}

std::string text_or(const JsonRef& root, const char* key, const char* otherwise) {
  const auto member = root.find(key);
  return member ? member->text() : otherwise;
}

TraceInfo parse_info(const JsonRef& root, std::int64_t num_tokens) {
  TraceInfo info;
  const JsonRef experts = root.at("num_experts");
  info.num_experts = static_cast<int>(experts.integer(1, kMaxExperts));
  info.model = text_or(root, "model", "");
  info.phase = text_or(root, "phase", "mixed");
  if (!is_trace_phase(info.phase)) root.at("phase").reject("'decode', 'prefill' or 'mixed'");
  info.source = text_or(root, "source", "");
  info.licence = text_or(root, "licence", "");
  if (const auto lengths = root.find("sequence_lengths")) {
    const std::size_t count = lengths->array_size();
    if (count == 0) lengths->reject("the length of each sequence");
    info.sequence_lengths.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      info.sequence_lengths.push_back((*lengths)[i].integer(1, num_tokens));
    }
  }
  return info;
}

}  // namespace

bool is_trace_phase(std::string_view phase) noexcept {
  return phase == "decode" || phase == "prefill" || phase == "mixed";
}

RoutingTrace parse_trace(std::shared_ptr<const void> storage, Bytes npy, std::string_view file,
                         const std::function<NamedText()>& sidecar) {
  const IdArray ids = parse_ids(npy, file);
  const NamedText json = sidecar();
  const nlohmann::json document = parse_json(json.text, json.file);
  const JsonRef root(document, json.file);
  check_sidecar_format(root);
  check_repeated(root, "topk", ids.topk, file);
  check_repeated(root, "num_layers", ids.num_layers, file);
  check_digest(root, npy, file);
  return view_trace(std::move(storage), ids, parse_info(root, ids.num_tokens), file, json.file);
}

RoutingTrace read_trace(const std::filesystem::path& npy) {
  const auto bytes = std::make_shared<const FileBytes>(npy);
  const std::string file = npy.string();
  const std::filesystem::path json = std::filesystem::path(npy).replace_extension(".json");
  const std::string json_file = json.string();
  std::optional<FileBytes> sidecar;
  return parse_trace(bytes, bytes->bytes(), file, [&]() -> NamedText {
    std::error_code ignored;
    if (std::filesystem::status(json, ignored).type() == std::filesystem::file_type::not_found) {
      fail(file, fmt::format("its {} is missing, a trace needs both; 'metro trace convert' makes "
                             "one of a bare .npy",
                             json_file));
    }
    return {as_text(sidecar.emplace(json).bytes()), json_file};
  });
}

}  // namespace metro::io
