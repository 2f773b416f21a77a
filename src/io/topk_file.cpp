// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/ids.hpp"
#include "io/json_reader.hpp"
#include "io/npy.hpp"
#include "io/parse.hpp"

namespace metro::io {
namespace {

constexpr std::int64_t kMaxTokens = std::numeric_limits<int>::max();
constexpr std::int64_t kMaxTopk = 65536;

/// Without tokens any topk will do; with tokens each needs at least one expert.
void check_shape(std::int64_t num_tokens, std::int64_t topk, std::string_view file) {
  if (num_tokens > kMaxTokens || topk > kMaxTopk || (num_tokens > 0 && topk < 1)) {
    fail(file, fmt::format("shape is ({}, {}), must have at most {} tokens and a topk of 1..{}",
                           num_tokens, topk, kMaxTokens, kMaxTopk));
  }
}

TopkBatch from_npy(Bytes bytes, int num_experts, std::string_view file) {
  const NpyArray array = parse_npy(bytes, file);
  require_integers(array, file);
  require_dims(array, 2, "(tokens, topk)", file);
  check_shape(array.shape[0], array.shape[1], file);
  const std::size_t bad = first_bad_id(array.data, array.type, array.count, num_experts);
  if (bad != array.count) {
    const auto topk = static_cast<std::size_t>(array.shape[1]);
    fail(file, fmt::format("[{}][{}] {}", bad / topk, bad % topk,
                           bad_id_text(id_text(array.data, array.type, bad), num_experts)));
  }
  TopkBatch batch{{}, static_cast<int>(array.shape[0]), static_cast<int>(array.shape[1])};
  batch.ids.resize(array.count);
  with_type(array.type, [&]<typename T>(T) {
    for (std::size_t i = 0; i < array.count; ++i) {
      // NOLINTNEXTLINE(bugprone-signed-char-misuse): an int8 of -1 is the id -1
      batch.ids[i] = static_cast<std::int32_t>(load_le<T>(array.data + i * sizeof(T)));
    }
  });
  return batch;
}

std::int32_t json_id(const JsonRef& id, int num_experts) {
  const nlohmann::json& value = id.value();
  // Compared as the type that the parser chose: a number above 2^63 must not wrap round to an id.
  const bool is_good = value.is_number_unsigned()
                           ? value.get<std::uint64_t>() < static_cast<std::uint64_t>(num_experts)
                           : value.is_number_integer() && value.get<std::int64_t>() == kMasked;
  if (!is_good) {
    fail(id.file(), fmt::format("{} {}", id.path(), bad_id_text(id.value_text(), num_experts)));
  }
  return value.get<std::int32_t>();
}

TopkBatch from_json(std::string_view text, int num_experts, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef rows(document, file);
  const std::size_t num_tokens = rows.array_size();
  if (num_tokens == 0) return {};
  const JsonRef first = rows[0];
  const std::size_t topk = first.array_size();
  check_shape(static_cast<std::int64_t>(num_tokens), static_cast<std::int64_t>(topk), file);
  TopkBatch batch{{}, static_cast<int>(num_tokens), static_cast<int>(topk)};
  batch.ids.reserve(num_tokens * topk);
  for (std::size_t token = 0; token < num_tokens; ++token) {
    const JsonRef row = rows[token];
    if (row.array_size() != topk) {
      fail(file, fmt::format("[{}] has {} entries, must have {} as [0] has", token,
                             row.array_size(), topk));
    }
    for (std::size_t k = 0; k < topk; ++k) batch.ids.push_back(json_id(row[k], num_experts));
  }
  return batch;
}

}  // namespace

TopkBatch parse_topk(Bytes bytes, int num_experts, std::string_view file) {
  return is_npy_else_json(bytes, file) ? from_npy(bytes, num_experts, file)
                                       : from_json(as_text(bytes), num_experts, file);
}

TopkBatch read_topk(const std::filesystem::path& path, int num_experts) {
  const FileBytes file(path);
  return parse_topk(file.bytes(), num_experts, path.string());
}

}  // namespace metro::io
