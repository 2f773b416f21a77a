// SPDX-License-Identifier: Apache-2.0
#include "io/json_reader.hpp"

#include <fmt/format.h>

#include <limits>

#include "io/fail.hpp"

namespace metro::io {

JsonRef JsonRef::at(const char* key) const& {
  if (auto member = find(key)) return *member;
  const std::string parent = path();
  fail(file_, fmt::format("{}{}{} is missing", parent, parent.empty() ? "" : ".", key));
}

std::optional<JsonRef> JsonRef::find(const char* key) const& {
  if (!value_->is_object()) reject("an object");
  const auto member = value_->find(key);
  if (member == value_->end()) return std::nullopt;
  return JsonRef(*member, *this, key, 0);
}

std::size_t JsonRef::array_size() const {
  if (!value_->is_array()) reject("an array");
  return value_->size();
}

JsonRef JsonRef::operator[](std::size_t index) const& {
  return {(*value_)[index], *this, nullptr, index};
}

std::int64_t JsonRef::integer(std::int64_t min, std::int64_t max) const {
  const bool in_range =
      value_->is_number_integer() &&
      !(value_->is_number_unsigned() &&
        value_->get<std::uint64_t>() >
            static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) &&
      value_->get<std::int64_t>() >= min && value_->get<std::int64_t>() <= max;
  if (!in_range) reject(fmt::format("an integer {}..{}", min, max));
  return value_->get<std::int64_t>();
}

double JsonRef::number() const {
  if (!value_->is_number()) reject("a number");
  return value_->get<double>();
}

std::string JsonRef::text() const {
  if (!value_->is_string()) reject("a string");
  return value_->get<std::string>();
}

void JsonRef::reject(std::string_view wanted) const {
  const std::string field = path();
  fail(file_, fmt::format("{} is {}, must be {}", field.empty() ? "the document" : field,
                          value_text(), wanted));
}

std::string JsonRef::path() const {
  if (parent_ == nullptr) return "";
  std::string path = parent_->path();  // at most kMaxJsonDepth calls deep
  if (key_ == nullptr) return path + fmt::format("[{}]", index_);
  if (!path.empty()) path += '.';
  return path + key_;
}

std::string JsonRef::value_text() const {
  if (value_->is_object()) return "an object";
  if (value_->is_array()) return "an array";
  if (value_->is_string()) return quote(value_->get_ref<const std::string&>());
  return value_->dump();
}

void check_format(const JsonRef& root, std::string_view format, int newest, bool required) {
  const auto found = required ? root.at("format") : root.find("format");
  if (found && (!found->value().is_string() || found->text() != format)) {
    found->reject(quote(format));
  }
  const auto version = required ? root.at("version") : root.find("version");
  if (!version) return;
  if (version->integer(1, std::numeric_limits<std::int64_t>::max()) > newest) {
    fail(root.file(), fmt::format("version is {}, this build reads {} up to version {}",
                                  version->value_text(), format, newest));
  }
}

}  // namespace metro::io
