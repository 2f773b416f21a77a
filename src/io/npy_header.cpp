// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <limits>

#include "io/fail.hpp"
#include "io/npy.hpp"

namespace metro::io {
namespace {

constexpr std::size_t kMaxDims = 32;

/// Reads the literal left to right; every step consumes input or throws.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, std::string_view file) : text_(text), file_(file) {}

  NpyHeader parse() {
    NpyHeader header;
    bool seen[3] = {};
    expect('{');
    while (!accept('}')) {
      const std::string_view key = string("a key in quotes");
      expect(':');
      if (key == "descr") {
        once(seen[0], key);
        header.descr = descr();
      } else if (key == "fortran_order") {
        once(seen[1], key);
        header.fortran_order = boolean();
      } else if (key == "shape") {
        once(seen[2], key);
        header.shape = shape();
      } else {
        fail(file_, fmt::format("npy header has the key {}, must have descr, fortran_order and "
                                "shape alone",
                                quote(key)));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != text_.size()) unexpected("nothing after '}'");
    for (const auto& [found, key] :
         {std::pair{seen[0], "descr"}, std::pair{seen[1], "fortran_order"},
          std::pair{seen[2], "shape"}}) {
      if (!found) fail(file_, fmt::format("npy header has no key '{}'", key));
    }
    return header;
  }

 private:
  void once(bool& seen, std::string_view key) const {
    if (seen) fail(file_, fmt::format("npy header has the key '{}' twice", key));
    seen = true;
  }

  std::string descr() {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') {
      fail(file_, "dtype is structured, must be a plain number type such as |u1 or <i4");
    }
    return std::string(string("a type in quotes"));
  }

  bool boolean() {
    skip_space();
    for (const auto& [word, value] :
         {std::pair{std::string_view("True"), true}, std::pair{std::string_view("False"), false}}) {
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    unexpected("True or False");
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> dims;
    expect('(');
    while (!accept(')')) {
      dims.push_back(dimension());
      if (dims.size() > kMaxDims)
        fail(file_, fmt::format("shape has over {} dimensions", kMaxDims));
      if (accept(',')) continue;
      if (dims.size() == 1) unexpected("',' (a tuple)");
      expect(')');
      break;
    }
    return dims;
  }

  std::int64_t dimension() {
    constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
    skip_space();
    const std::size_t start = at_;
    std::int64_t value = 0;
    for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      const int digit = text_[at_] - '0';
      if (value > (kMax - digit) / 10) {
        fail(file_, fmt::format("shape has a dimension above {}, the most there can be", kMax));
      }
      value = value * 10 + digit;
    }
    if (at_ == start) unexpected("a dimension");
    return value;
  }

  /// What stands between two equal quotes; a backslash is an ordinary character.
  std::string_view string(const char* what) {
    skip_space();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') unexpected(what);
    const std::size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) fail(file_, "npy header ends inside a string");
    const std::string_view inner = text_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    return inner;
  }

  bool accept(char c) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void expect(char c) {
    if (!accept(c)) unexpected(fmt::format("'{}'", c));
  }

  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }

  [[noreturn]] void unexpected(std::string_view wanted) const {
    if (at_ >= text_.size())
      fail(file_, fmt::format("npy header ends early, must have {}", wanted));
    fail(file_, fmt::format("npy header has {} at character {}, must have {}",
                            quote(text_.substr(at_, 1)), at_, wanted));
  }

  std::string_view text_;
  std::string_view file_;
  std::size_t at_ = 0;
};

}  // namespace

NpyHeader parse_npy_header(std::string_view literal, std::string_view file) {
  return HeaderParser(literal, file).parse();
}

}  // namespace metro::io
