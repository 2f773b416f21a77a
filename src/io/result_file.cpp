// SPDX-License-Identifier: Apache-2.0
#include "io/result_file.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"

namespace metro::io {
namespace {

constexpr int kResultVersion = 1;

/// Of an object: keys in their order are looked up one after another.
constexpr std::size_t kMaxKeys = 4096;

/// Throws for an object with too many keys. As deep as parse_json lets a document be.
void check_sizes(const nlohmann::json& value, std::string_view file) {
  if (value.is_object() && value.size() > kMaxKeys) {
    fail(file, fmt::format("an object has {} keys, must have at most {}", value.size(), kMaxKeys));
  }
  if (value.is_structured()) {
    for (const nlohmann::json& member : value) check_sizes(member, file);
  }
}

void need_text(const JsonRef& object, const char* key) { static_cast<void>(object.at(key).text()); }

}  // namespace

nlohmann::ordered_json parse_result(std::string_view text, std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  check_format(root, "metro-result", kResultVersion, true);
  need_text(root, "command");
  need_text(root, "evidence");
  const JsonRef seed = root.at("seed");
  if (!seed.value().is_number_unsigned()) seed.reject("an integer, 0 or more");
  const JsonRef inputs = root.at("inputs");
  const std::size_t count = inputs.array_size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonRef input = inputs[i];
    need_text(input, "path");
    need_text(input, "sha256");
  }
  check_sizes(document, file);
  // Again, now that the text is known to be sound, for the order of the keys.
  return nlohmann::ordered_json::parse(text);
}

nlohmann::ordered_json read_result(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_result(as_text(file.bytes()), path.string());
}

}  // namespace metro::io
