// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "io/fail.hpp"
#include "io/json_reader.hpp"

namespace metro::io {
namespace {

using Json = nlohmann::json;

/// A document in memory is a few dozen times its text; none of our files comes near this.
constexpr std::size_t kMaxJsonBytes = std::size_t{256} << 20;

/// Walks the text and leaves the parser's place where the handler can see it.
class Cursor {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  Cursor(std::string_view text, std::size_t at, std::size_t* latest)
      : text_(text), at_(at), latest_(latest) {}
  reference operator*() const { return text_[at_]; }
  Cursor& operator++() {
    *latest_ = ++at_;
    return *this;
  }
  Cursor operator++(int) {
    const Cursor old = *this;
    ++*this;
    return old;
  }
  friend bool operator==(const Cursor& a, const Cursor& b) { return a.at_ == b.at_; }

 private:
  std::string_view text_;
  std::size_t at_;
  std::size_t* latest_;
};

/// Builds the document from the parser's events. The parser keeps its own stack, and so does this:
/// no call nests as the input does.
class Builder final : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  Json parse() {
    Json::sax_parse(Cursor(text_, 0, &taken_), Cursor(text_, text_.size(), &taken_), this);
    return std::move(root_);
  }

  bool null() override { return add(nullptr) != nullptr; }
  bool boolean(bool value) override { return add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return add(value) != nullptr;
  }
  bool string(string_t& value) override { return add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    const auto [member, added] =
        open_.back()->get_ref<Json::object_t&>().emplace(std::move(name), nullptr);
    if (!added) {
      fail_at(place(), fmt::format("the key {} stands twice in one object", quote(member->first)));
    }
    member_ = &member->second;
    return true;
  }

  bool parse_error(std::size_t read, const std::string& token,
                   const Json::exception& error) override {
    constexpr int kOutOfRange = 406;
    if (error.id == kOutOfRange) {
      fail_at(read - std::min(read, token.size()),
              fmt::format("the number {} is beyond a double", quote(token)));
    }
    if (read > text_.size()) fail_at(text_.size(), "the JSON ends too early");
    // The parser's token may open long before the fault: show the character it stopped at.
    if (std::string_view(error.what()).find("invalid string") != std::string_view::npos) {
      fail_at(read - 1, "malformed JSON string (bad escape, control character or UTF-8)");
    }
    fail_at(read - 1,
            fmt::format("malformed JSON, unexpected {}", quote(text_.substr(read - 1, 1))));
  }

 private:
  Json* add(Json&& value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      auto& elements = open_.back()->get_ref<Json::array_t&>();
      return &elements.emplace_back(std::move(value));
    }
    *member_ = std::move(value);
    return member_;
  }

  bool open(Json&& value) {
    if (open_.size() == static_cast<std::size_t>(kMaxJsonDepth)) {
      fail_at(place(), fmt::format("JSON is nested more than {} deep", kMaxJsonDepth));
    }
    open_.push_back(add(std::move(value)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  /// Index of the last character that the parser took.
  [[nodiscard]] std::size_t place() const { return taken_ - 1; }

  [[noreturn]] void fail_at(std::size_t offset, std::string_view message) const {
    const std::string_view before = text_.substr(0, offset);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
    fail(file_, fmt::format("line {}, column {}: {}", line, offset - line_start + 1, message));
  }

  std::string_view text_;
  std::string_view file_;
  Json root_;
  std::vector<Json*> open_;  ///< containers not yet closed, outermost first
  Json* member_ = nullptr;   ///< where the value of the key just read goes
  std::size_t taken_ = 0;
};

}  // namespace

Json parse_json(std::string_view text, std::string_view file) {
  if (text.size() > kMaxJsonBytes) {
    fail(file, fmt::format("has {} bytes, JSON may have at most {}", text.size(), kMaxJsonBytes));
  }
  return Builder(text, file).parse();
}

}  // namespace metro::io
