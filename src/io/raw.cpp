// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstring>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/ids.hpp"
#include "io/parse.hpp"
#include "metro/error.hpp"

namespace metro::io {
namespace {

DType checked_type(const RawLayout& layout) {
  const auto type = parse_dtype(layout.dtype);
  if (!type || type->kind == 'f') {
    throw Error(ErrorCode::kUsage,
                fmt::format("dtype is {}, must be {}", quote(layout.dtype), kIntegerTypes));
  }
  if (layout.num_layers < 1 || layout.topk < 1) {
    throw Error(ErrorCode::kUsage, fmt::format("{} layers and topk {}, each must be at least 1",
                                               layout.num_layers, layout.topk));
  }
  return *type;
}

/// [layers][tokens][topk] as [tokens][layers][topk].
std::vector<std::byte> tokens_first(Bytes bytes, const IdArray& ids) {
  const auto tokens = static_cast<std::size_t>(ids.num_tokens);
  const auto layers = static_cast<std::size_t>(ids.num_layers);
  const std::size_t cell = static_cast<std::size_t>(ids.topk * std::int64_t{ids.type.bytes});
  std::vector<std::byte> out(bytes.size());
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (std::size_t token = 0; token < tokens; ++token) {
      std::memcpy(&out[(token * layers + layer) * cell], &bytes[(layer * tokens + token) * cell],
                  cell);
    }
  }
  return out;
}

}  // namespace

RoutingTrace parse_raw_trace(std::shared_ptr<const void> storage, Bytes bytes,
                             const RawLayout& layout, TraceInfo info, std::string_view file) {
  const DType type = checked_type(layout);
  const auto layers = static_cast<std::uint64_t>(layout.num_layers);
  const auto topk = static_cast<std::uint64_t>(layout.topk);
  const std::uint64_t per_layer = topk * static_cast<std::uint64_t>(type.bytes);  // below 2^34
  const bool fits = layers <= bytes.size() / per_layer;
  if (!fits || bytes.size() % (layers * per_layer) != 0) {
    fail(file, fmt::format("has {} bytes, must be a multiple of {} layers x {} ids x {} bytes",
                           bytes.size(), layers, topk, type.bytes));
  }
  const IdArray ids{bytes.data(), type,
                    static_cast<std::int64_t>(bytes.size() / (layers * per_layer)),
                    layout.num_layers, layout.topk};
  if (layout.order == RawLayout::Order::kLayersFirst) {
    return own_trace(tokens_first(bytes, ids), ids, std::move(info), file);
  }
  return view_trace(std::move(storage), ids, std::move(info), file, file);
}

RoutingTrace read_raw_trace(const std::filesystem::path& path, const RawLayout& layout,
                            TraceInfo info) {
  const auto file = std::make_shared<const FileBytes>(path);
  return parse_raw_trace(file, file->bytes(), layout, std::move(info), path.string());
}

}  // namespace metro::io
