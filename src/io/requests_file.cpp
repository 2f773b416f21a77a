// SPDX-License-Identifier: Apache-2.0
#include "io/requests_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>

#include "io/csv_row.hpp"
#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "io/timestamp.hpp"
#include "metro/io.hpp"

namespace metro::io {
namespace {

/// How a column tells the time of arrival.
enum class Clock { kDate, kSeconds };

/// A kind of CSV file: its three columns, wherever they stand among others.
struct CsvFormat {
  std::string_view name;
  std::array<std::string_view, 3> columns;  ///< arrival, prompt, output
  Clock clock;
};

constexpr std::array<CsvFormat, 3> kCsvFormats = {{
    {"Azure", {"TIMESTAMP", "ContextTokens", "GeneratedTokens"}, Clock::kDate},
    {"BurstGPT", {"Timestamp", "Request tokens", "Response tokens"}, Clock::kSeconds},
    {"vidur", {"arrived_at", "num_prefill_tokens", "num_decode_tokens"}, Clock::kSeconds},
}};

constexpr std::string_view kWanted =
    "must be Azure, BurstGPT or vidur CSV (by its header) or Mooncake JSON lines";

/// Longest span of a file, so that seconds keep their microseconds in a double.
constexpr double kMaxSeconds = 1e9;

[[noreturn]] void reject(std::string_view file, std::size_t line, std::string_view message) {
  fail(file, fmt::format("line {}: {}", line, message));
}

std::int32_t parse_tokens(std::string_view field, std::string_view column, std::string_view file,
                          std::size_t line) {
  std::int32_t value = 0;
  const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || stop != field.data() + field.size() || value < 0 ||
      value > kMaxRequestTokens) {
    reject(
        file, line,
        fmt::format("{} is {}, must be an integer 0..{}", column, quote(field), kMaxRequestTokens));
  }
  return value;
}

double parse_seconds(std::string_view field, std::string_view column, std::string_view file,
                     std::size_t line) {
  double value = 0;
  const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
  if (error != std::errc() || stop != field.data() + field.size() || !(value >= 0) ||
      value > kMaxSeconds) {
    reject(file, line,
           fmt::format("{} is {}, must be seconds 0..{:g}", column, quote(field), kMaxSeconds));
  }
  return value;
}

/// Index of each of the format's columns in the header; empty when one is missing.
std::vector<std::size_t> find_columns(const std::vector<std::string_view>& header,
                                      const CsvFormat& format) {
  std::vector<std::size_t> at;
  for (const std::string_view column : format.columns) {
    const auto found = std::ranges::find(header, column);
    if (found == header.end()) return {};
    at.push_back(static_cast<std::size_t>(found - header.begin()));
  }
  return at;
}

/// Arrivals from the first on: a date's nanoseconds would lose digits in a double.
class Arrivals {
 public:
  double since_first(std::string_view field, const CsvFormat& format, std::string_view file,
                     std::size_t line) {
    if (format.clock == Clock::kSeconds) {
      return parse_seconds(field, format.columns[0], file, line);
    }
    const auto time = parse_timestamp(field);
    if (!time) {
      reject(file, line,
             fmt::format("{} is {}, must be a time such as 2023-11-16 18:15:46.6805900",
                         format.columns[0], quote(field)));
    }
    if (!has_first_) first_ = *time;
    has_first_ = true;
    const double seconds = static_cast<double>(*time - first_) * 1e-9;
    if (std::abs(seconds) > kMaxSeconds) {
      reject(file, line,
             fmt::format("{} is {}, more than {:g} s from line 2", format.columns[0], quote(field),
                         kMaxSeconds));
    }
    return seconds;
  }

 private:
  bool has_first_ = false;
  std::int64_t first_ = 0;
};

std::vector<Request> parse_csv(Lines lines, std::string_view file) {
  std::vector<std::string_view> fields;
  if (!split_csv_row(lines.line(), fields)) reject(file, 1, "a quote is not closed");
  const CsvFormat* format = nullptr;
  std::vector<std::size_t> at;
  for (const CsvFormat& candidate : kCsvFormats) {
    at = find_columns(fields, candidate);
    if (!at.empty()) {
      format = &candidate;
      break;
    }
  }
  if (format == nullptr) {
    reject(file, 1, fmt::format("the header is {}, {}", quote(lines.line()), kWanted));
  }
  const std::size_t width = fields.size();
  std::vector<Request> requests;
  Arrivals arrivals;
  for (lines.next(); !lines.done(); lines.next()) {
    if (lines.line().empty() && lines.is_last()) break;
    if (!split_csv_row(lines.line(), fields)) reject(file, lines.number(), "a quote is not closed");
    if (fields.size() != width) {
      reject(file, lines.number(),
             fmt::format("has {} fields, must have {} as the header has", fields.size(), width));
    }
    requests.push_back({arrivals.since_first(fields[at[0]], *format, file, lines.number()),
                        parse_tokens(fields[at[1]], format->columns[1], file, lines.number()),
                        parse_tokens(fields[at[2]], format->columns[2], file, lines.number())});
  }
  return requests;
}

/// Mooncake: an object a line, its timestamp in milliseconds; hash_ids are not used.
std::vector<Request> parse_json_lines(Lines lines, std::string_view file) {
  std::vector<Request> requests;
  for (; !lines.done(); lines.next()) {
    if (lines.line().find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = fmt::format("{}: line {}", file, lines.number());
    const nlohmann::json document = parse_json(lines.line(), place);
    const JsonRef root(document, place);
    const JsonRef timestamp = root.at("timestamp");
    const double arrival_ms = timestamp.number();
    if (!(arrival_ms >= 0 && arrival_ms <= kMaxSeconds * 1e3)) {
      timestamp.reject(fmt::format("milliseconds 0..{:g}", kMaxSeconds * 1e3));
    }
    requests.push_back(
        {arrival_ms * 1e-3,
         static_cast<std::int32_t>(root.at("input_length").integer(0, kMaxRequestTokens)),
         static_cast<std::int32_t>(root.at("output_length").integer(0, kMaxRequestTokens))});
  }
  return requests;
}

}  // namespace

std::vector<Request> parse_requests(std::string_view text, std::string_view file) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) fail(file, "is empty");
  const Lines lines(text);
  std::vector<Request> requests =
      text[first] == '{' ? parse_json_lines(lines, file) : parse_csv(lines, file);
  if (requests.empty()) fail(file, "has no requests, must have one at least");
  // Recorders write when a request ends or in batches: some files are not in order of arrival.
  std::ranges::stable_sort(requests, {}, &Request::arrival_s);
  const double start = requests.front().arrival_s;
  for (Request& request : requests) request.arrival_s -= start;
  return requests;
}

std::vector<Request> read_requests(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_requests(as_text(file.bytes()), path.string());
}

}  // namespace metro::io
