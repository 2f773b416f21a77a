// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "io/npy.hpp"
#include "io/parse.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"

namespace metro::io {
namespace {

constexpr int kLoadsVersion = 1;

Loads from_npy(Bytes bytes, std::string_view file) {
  const NpyArray array = parse_npy(bytes, file);
  require_dims(array, 2, "(layers, experts)", file);
  if (array.count == 0 || array.shape[0] > std::numeric_limits<int>::max() ||
      array.shape[1] > kMaxExperts) {
    fail(file, fmt::format("shape is {}, must have 1..{} layers and 1..{} experts",
                           shape_text(array.shape), std::numeric_limits<int>::max(), kMaxExperts));
  }
  Loads loads{static_cast<int>(array.shape[0]), static_cast<int>(array.shape[1]), {}};
  loads.tokens.resize(array.count);
  with_type(array.type, [&]<typename T>(T) {
    for (std::size_t i = 0; i < array.count; ++i) {
      loads.tokens[i] = static_cast<double>(load_le<T>(array.data + i * sizeof(T)));
    }
  });
  return loads;
}

Loads from_json(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-loads", kLoadsVersion, false);
  const JsonRef rows = root.at("loads");
  const std::size_t num_layers = rows.array_size();
  if (num_layers == 0) fail(file, "loads is empty, must have a row for each layer");
  const JsonRef first = rows[0];
  const std::size_t num_experts = first.array_size();
  if (num_experts < 1 || num_experts > static_cast<std::size_t>(kMaxExperts)) {
    fail(file, fmt::format("loads[0] has {} entries, must have 1..{}", num_experts, kMaxExperts));
  }
  Loads loads{static_cast<int>(num_layers), static_cast<int>(num_experts), {}};
  loads.tokens.reserve(num_layers * num_experts);
  for (std::size_t layer = 0; layer < num_layers; ++layer) {
    const JsonRef row = rows[layer];
    if (row.array_size() != num_experts) {
      fail(file, fmt::format("loads[{}] has {} entries, must have {} as loads[0] has", layer,
                             row.array_size(), num_experts));
    }
    for (std::size_t expert = 0; expert < num_experts; ++expert) {
      loads.tokens.push_back(row[expert].number());
    }
  }
  return loads;
}

}  // namespace

bool is_npy_else_json(Bytes bytes, std::string_view file) {
  if (is_npy(bytes)) return true;
  std::string_view text = as_text(bytes);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos || (text[first] != '{' && text[first] != '[')) {
    fail(file, "is neither a .npy file nor JSON");
  }
  return false;
}

Loads parse_loads(Bytes bytes, std::string_view file) {
  const Loads loads =
      is_npy_else_json(bytes, file) ? from_npy(bytes, file) : from_json(as_text(bytes), file);
  try {
    loads.validate();
  } catch (const Error& error) {
    fail(file, error.what());
  }
  return loads;
}

Loads read_loads(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_loads(file.bytes(), path.string());
}

}  // namespace metro::io
