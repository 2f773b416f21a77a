// SPDX-License-Identifier: Apache-2.0
#include "io/text_value.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <system_error>
#include <vector>

#include "metro/error.hpp"

namespace metro::io {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

/// Parses all of `text`; from_chars takes no sign '+', no blanks and no octal.
template <typename Number>
bool parse_all(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

/// Levenshtein distance; names are a few letters long.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::int64_t parse_int(std::string_view name, std::string_view text, IntRange range) {
  std::int64_t value = 0;
  if (!parse_all(text, value) || value < range.min || value > range.max) {
    fail(
        fmt::format("{} is '{}', must be a whole number {}..{}", name, text, range.min, range.max));
  }
  return value;
}

std::uint64_t parse_uint64(std::string_view name, std::string_view text) {
  std::uint64_t value = 0;
  if (!parse_all(text, value)) {
    fail(fmt::format("{} is '{}', must be a whole number 0..{}", name, text,
                     std::numeric_limits<std::uint64_t>::max()));
  }
  return value;
}

double parse_real(std::string_view name, std::string_view text, RealRange range) {
  double value = 0;
  if (!parse_all(text, value) || !std::isfinite(value) || value < range.min || value > range.max) {
    fail(fmt::format("{} is '{}', must be a number {}..{}", name, text, range.min, range.max));
  }
  return value;
}

std::string parse_name(std::string_view name, std::string_view text,
                       std::span<const std::string_view> known) {
  if (std::ranges::find(known, text) == known.end()) {
    fail(fmt::format("{} is '{}', must be one of {}{}", name, text, join(known),
                     did_you_mean(text, known)));
  }
  return std::string(text);
}

std::string did_you_mean(std::string_view text, std::span<const std::string_view> known) {
  const auto closest = std::ranges::min_element(
      known, {}, [&](std::string_view candidate) { return edit_distance(text, candidate); });
  if (closest == known.end()) return "";
  const std::size_t distance = edit_distance(text, *closest);
  if (distance == 0 || distance > 1 + closest->size() / 3) return "";
  return fmt::format(" (did you mean '{}'?)", *closest);
}

bool is_file_name(const std::string& text, std::string_view suffix) {
  for (const std::string_view start : {"/", "./", "../"}) {
    if (text.starts_with(start)) return true;
  }
  std::error_code error;
  return text.ends_with(suffix) ||
         std::filesystem::exists(std::filesystem::symlink_status(text, error));
}

std::string join(std::span<const std::string_view> names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace metro::io
