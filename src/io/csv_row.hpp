// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace metro::io {

/// Walks the lines of a text; they end in \n or \r\n.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) { cut(); }

  [[nodiscard]] std::string_view line() const noexcept { return line_; }
  [[nodiscard]] std::size_t number() const noexcept { return number_; }
  [[nodiscard]] bool done() const noexcept { return done_; }
  /// Whether no other line follows this one.
  [[nodiscard]] bool is_last() const noexcept { return end_ == text_.size(); }

  void next() {
    done_ = is_last();
    begin_ = end_ + 1;
    ++number_;
    if (!done_) cut();
  }

 private:
  void cut() {
    end_ = text_.find('\n', begin_);
    if (end_ == std::string_view::npos) end_ = text_.size();
    line_ = text_.substr(begin_, end_ - begin_);
    if (line_.ends_with('\r')) line_.remove_suffix(1);
  }

  std::string_view text_;
  std::string_view line_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::size_t number_ = 1;
  bool done_ = false;
};

/// Splits a CSV row into its fields, blanks around each cut off. A field in double quotes may hold
/// commas; quotes inside it stay doubled, as no field that we read has any. False when a quote is
/// not closed or has text behind it.
bool split_csv_row(std::string_view row, std::vector<std::string_view>& fields);

}  // namespace metro::io
