// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace metro::io {

/// Deepest nesting that is read; our formats need 4. Bounds the recursion of whoever walks or
/// destroys the document.
inline constexpr int kMaxJsonDepth = 16;

/// Parses one JSON document (RFC 8259; a leading UTF-8 byte order mark is skipped).
/// Throws Error{kInput} with line and column for malformed text, deeper nesting than
/// kMaxJsonDepth, a key that an object has twice, or a number beyond a double.
nlohmann::json parse_json(std::string_view text, std::string_view file);

/// A value of a JSON document and the way to it, so that every message names its field.
///
/// The way is a chain of references on the stack, turned into text only for a message: keep each
/// step in a variable (asking a temporary for its children does not compile).
class JsonRef {
 public:
  JsonRef(const nlohmann::json& root, std::string_view file) : value_(&root), file_(file) {}

  /// A member of an object: `at` throws Error{kInput} when it is missing.
  [[nodiscard]] JsonRef at(const char* key) const&;
  [[nodiscard]] std::optional<JsonRef> find(const char* key) const&;
  JsonRef at(const char* key) const&& = delete;
  std::optional<JsonRef> find(const char* key) const&& = delete;

  /// Elements of an array. `operator[]` trusts the index.
  [[nodiscard]] std::size_t array_size() const;
  [[nodiscard]] JsonRef operator[](std::size_t index) const&;
  JsonRef operator[](std::size_t index) const&& = delete;

  /// The value as a type; throws Error{kInput} unless it is one. An integer is written without
  /// fraction or exponent: 3.0 is not one.
  [[nodiscard]] std::int64_t integer(std::int64_t min, std::int64_t max) const;
  [[nodiscard]] double number() const;
  [[nodiscard]] std::string text() const;

  /// Throws "<file>: <field> is <value>, must be <wanted>".
  [[noreturn]] void reject(std::string_view wanted) const;

  [[nodiscard]] const nlohmann::json& value() const noexcept { return *value_; }
  [[nodiscard]] std::string_view file() const noexcept { return file_; }
  [[nodiscard]] std::string path() const;
  [[nodiscard]] std::string value_text() const;

 private:
  JsonRef(const nlohmann::json& value, const JsonRef& parent, const char* key, std::size_t index)
      : value_(&value), file_(parent.file_), parent_(&parent), key_(key), index_(index) {}

  const nlohmann::json* value_;
  std::string_view file_;
  const JsonRef* parent_ = nullptr;
  const char* key_ = nullptr;  ///< null: an array's element
  std::size_t index_ = 0;
};

/// Refuses a "format" other than `format` and a "version" above `newest`. When `required`, both
/// must be there; else each is checked only if it is.
void check_format(const JsonRef& root, std::string_view format, int newest, bool required);

}  // namespace metro::io
