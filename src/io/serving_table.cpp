// SPDX-License-Identifier: Apache-2.0
#include "io/serving_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "io/csv_row.hpp"
#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "metro/placement.hpp"

namespace metro::io {
namespace {

enum Column : std::uint8_t {
  kId,
  kModel,
  kGpu,
  kEngine,
  kPrecision,
  kInput,
  kOutput,
  kConcurrency,
  kGpus,
  kAttention,
  kEp,
  kMoeTp,
  kTtft,
  kTpot,
  kGroup,
  kMeasurement,
  kNumColumns
};

constexpr std::array<std::string_view, kNumColumns> kNames = {"id",
                                                              "canonical_model",
                                                              "system",
                                                              "backend",
                                                              "precision",
                                                              "isl",
                                                              "osl",
                                                              "concurrency",
                                                              "gpus",
                                                              "attn_mode",
                                                              "ep",
                                                              "moe_tp",
                                                              "silicon_ttft_ms",
                                                              "silicon_tpot_ms",
                                                              "group_id",
                                                              "measurement_id"};

constexpr int kMaxTokens = 1 << 30;

/// One row's fields by column.
class Row {
 public:
  Row(const std::vector<std::string_view>& fields,
      const std::array<std::size_t, kNumColumns>& column_to_field, std::string_view file,
      std::size_t line)
      : fields_(fields), column_to_field_(column_to_field), file_(file), line_(line) {}

  [[nodiscard]] std::string_view text(Column column) const {
    return fields_[column_to_field_[column]];
  }

  [[nodiscard]] std::string name(Column column) const {
    if (text(column).empty()) reject(column, "must not be empty");
    return std::string(text(column));
  }

  [[nodiscard]] int integer(Column column, int min, int max) const {
    const std::string_view field = text(column);
    int value = 0;
    const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || stop != field.data() + field.size() || value < min || value > max) {
      reject(column, fmt::format("must be an integer {}..{}", min, max));
    }
    return value;
  }

  [[nodiscard]] double milliseconds(Column column) const {
    const std::string_view field = text(column);
    double value = 0;
    const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || stop != field.data() + field.size() || !(value > 0) ||
        !(value < 1e12)) {
      reject(column, "must be a number above 0");
    }
    return value;
  }

  [[noreturn]] void reject(Column column, std::string_view wanted) const {
    fail(file_,
         fmt::format("line {}: {} is {}, {}", line_, kNames[column], quote(text(column)), wanted));
  }

 private:
  const std::vector<std::string_view>& fields_;
  const std::array<std::size_t, kNumColumns>& column_to_field_;
  std::string_view file_;
  std::size_t line_;
};

std::array<std::size_t, kNumColumns> find_columns(const std::vector<std::string_view>& header,
                                                  std::string_view file) {
  std::array<std::size_t, kNumColumns> column_to_field{};
  for (std::size_t c = 0; c < kNumColumns; ++c) {
    const auto found = std::ranges::find(header, kNames[c]);
    if (found == header.end()) {
      fail(file, fmt::format("line 1: has no column '{}'", kNames[c]));
    }
    column_to_field[c] = static_cast<std::size_t>(found - header.begin());
  }
  return column_to_field;
}

AttentionSharding sharding(std::string_view mode) {
  if (mode == "tp") return AttentionSharding::kTensor;
  return mode == "dp" ? AttentionSharding::kData : AttentionSharding::kUnknown;
}

ServingPoint read_point(const Row& row, std::size_t line) {
  const auto precision = find_data_type(row.text(kPrecision));
  if (!precision) row.reject(kPrecision, "must be a number format such as bf16, fp8 or fp4");
  ServingPoint point{
      .id = row.name(kId),
      .model = row.name(kModel),
      .gpu = row.name(kGpu),
      .engine = std::string(row.text(kEngine)),
      .precision = *precision,
      .input_tokens = row.integer(kInput, 1, kMaxTokens),
      .output_tokens = row.integer(kOutput, 1, kMaxTokens),
      .concurrency = {},
      .gpus = row.integer(kGpus, 1, kMaxGpus),
      .attention = sharding(row.text(kAttention)),
      .ep = row.integer(kEp, 1, kMaxGpus),
      .moe_tp = row.integer(kMoeTp, 1, kMaxGpus),
      .ttft_ms = row.milliseconds(kTtft),
      .tpot_ms = row.milliseconds(kTpot),
      .group_id = row.name(kGroup),
      .measurement_id = row.name(kMeasurement),
      .line = line,
  };
  if (!row.text(kConcurrency).empty()) point.concurrency = row.integer(kConcurrency, 1, kMaxTokens);
  return point;
}

}  // namespace

std::vector<ServingPoint> parse_serving_table(std::string_view text, std::string_view file) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<std::string_view> fields;
  Lines lines(text);
  const auto split = [&] {
    if (!split_csv_row(lines.line(), fields)) {
      fail(file, fmt::format("line {}: a quote is not closed", lines.number()));
    }
  };
  split();
  const std::size_t width = fields.size();
  const auto column_to_field = find_columns(fields, file);
  std::vector<ServingPoint> points;
  for (lines.next(); !lines.done(); lines.next()) {
    if (lines.line().empty() && lines.is_last()) break;
    split();
    if (fields.size() != width) {
      fail(file, fmt::format("line {}: has {} fields, must have the header's {}", lines.number(),
                             fields.size(), width));
    }
    points.push_back(
        read_point(Row(fields, column_to_field, file, lines.number()), lines.number()));
  }
  if (points.empty()) fail(file, "has a header and no rows");
  return points;
}

std::vector<ServingPoint> read_serving_table(const std::filesystem::path& path) {
  const FileBytes file(path);
  return parse_serving_table(as_text(file.bytes()), path.string());
}

}  // namespace metro::io
