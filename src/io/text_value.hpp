// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>

/// Values that people write: of options, and of a sweep's lists. Each function throws Error{kUsage}
/// that calls the value `name` and says what would be right. Numbers are decimal and whole: no
/// octal, no sign '+', no blanks, no trailing text.
namespace metro::io {

struct IntRange {
  std::int64_t min = 0;
  std::int64_t max = std::numeric_limits<std::int32_t>::max();
};

struct RealRange {
  double min = 0;
  double max = 1e9;
};

std::int64_t parse_int(std::string_view name, std::string_view text, IntRange range);
std::uint64_t parse_uint64(std::string_view name, std::string_view text);
double parse_real(std::string_view name, std::string_view text, RealRange range);

/// `text` where it is one of `known`; a near miss is answered with the name that was meant.
std::string parse_name(std::string_view name, std::string_view text,
                       std::span<const std::string_view> known);

/// " (did you mean 'x'?)" for the closest of `known`, or nothing when none is close.
std::string did_you_mean(std::string_view text, std::span<const std::string_view> known);

/// Whether what is no registered name means a file: it looks like a path, or something is there
/// (a link that leads nowhere, too).
bool is_file_name(const std::string& text, std::string_view suffix);

/// "a, b, c".
std::string join(std::span<const std::string_view> names);

}  // namespace metro::io
