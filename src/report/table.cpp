// SPDX-License-Identifier: Apache-2.0
#include "report/table.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

namespace metro::report {
namespace {

constexpr std::size_t kGap = 2;
/// Letters of UTF-8, not bytes.
std::size_t length(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

/// `text` in lines of at most `letters`, broken at blanks; a longer word has a line of its own.
std::vector<std::string> broken(std::string_view text, std::size_t letters) {
  std::vector<std::string> lines;
  if (length(text) <= letters) return {std::string(text)};
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(' ', 1), text.size());
    const std::string_view word = text.substr(0, end);
    if (!lines.empty() && length(lines.back()) + length(word) <= letters) {
      lines.back() += word;
    } else {
      lines.emplace_back(lines.empty() ? word : word.substr(word.find_first_not_of(' ')));
    }
    text.remove_prefix(end);
  }
  return lines;
}

std::size_t longest_word(std::string_view text) {
  std::size_t longest = 0;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    longest = std::max(longest, length(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return longest;
}

struct Column {
  std::size_t index;
  std::size_t width;
  std::size_t least;  // breaks no word
};

std::size_t total(const std::vector<Column>& columns) {
  std::size_t sum = 0;
  for (const Column& column : columns) sum += column.width + kGap;
  return sum < kGap ? 0 : sum - kGap;
}

}  // namespace

std::string Table::text(int width) const {
  const std::vector<std::string>& header = rows_.front();
  std::vector<Column> columns;
  for (std::size_t c = 0; c < header.size(); ++c) {
    Column column{c, 0, 0};
    for (const auto& row : rows_) {
      column.width = std::max(column.width, length(row[c]));
      column.least = std::max(column.least, longest_word(row[c]));
    }
    columns.push_back(column);
  }
  const std::size_t room =
      width == kAnyWidth ? total(columns) : static_cast<std::size_t>(std::max(width, 1));
  std::vector<std::string> left_out;
  for (auto spare = spare_.begin(); spare != spare_.end() && total(columns) > room; ++spare) {
    const auto is_spare = [&](const Column& column) { return header[column.index] == *spare; };
    if (std::erase_if(columns, is_spare) > 0) left_out.push_back(*spare);
  }
  // The left column that has most to give gives way, letter by letter.
  while (total(columns) > room) {
    Column* widest = nullptr;
    for (Column& column : columns) {
      const bool may = column.index < left_columns_ && column.width > column.least;
      if (may && (widest == nullptr || column.width > widest->width)) widest = &column;
    }
    if (widest == nullptr) break;
    --widest->width;
  }

  std::string text;
  for (const auto& row : rows_) {
    std::vector<std::vector<std::string>> cells;
    std::size_t height = 1;
    for (const Column& column : columns) {
      cells.push_back(broken(row[column.index], column.width));
      height = std::max(height, cells.back().size());
    }
    for (std::size_t i = 0; i < height; ++i) {
      std::string line;
      for (std::size_t c = 0; c < columns.size(); ++c) {
        if (c > 0) line.append(kGap, ' ');
        const std::string cell = i < cells[c].size() ? cells[c][i] : "";
        const std::size_t pad = columns[c].width - std::min(columns[c].width, length(cell));
        line += columns[c].index < left_columns_ ? cell + std::string(pad, ' ')
                                                 : std::string(pad, ' ') + cell;
      }
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
  }
  if (!left_out.empty()) {
    text += fmt::format("Left out for lack of room: {}.\n", fmt::join(left_out, ", "));
  }
  return text;
}

}  // namespace metro::report
