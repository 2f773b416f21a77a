// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/ids.hpp"
#include "io/parse.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro::io {
namespace {

constexpr DType kIdType{'i', 4};
constexpr std::string_view kHeader = "token,layer,k,expert";

/// Walks the fields of a CSV text. Fields are plain integers: no quotes, no comments; blanks around
/// one are skipped, lines end in \n or \r\n.
class CsvReader {
 public:
  CsvReader(std::string_view text, std::string_view file) : text_(text), file_(file) {
    if (text_.starts_with("\xef\xbb\xbf")) text_.remove_prefix(3);
    start_line();
  }

  [[nodiscard]] bool at_end() const { return line_start_ == text_.size(); }
  [[nodiscard]] std::string_view line() const { return line_; }
  [[nodiscard]] bool line_done() const { return next_ > line_.size(); }

  void next_line() {
    line_start_ = std::min(text_.size(), line_end_ + 1);
    ++number_;
    start_line();
  }

  /// The next field of this line as an integer in min..max.
  std::int64_t integer(const char* name, std::int64_t min, std::int64_t max) {
    const std::size_t end = std::min(line_.find(',', next_), line_.size());
    field_ = next_;
    next_ = end + 1;
    std::string_view field = line_.substr(field_, end - field_);
    const std::size_t first = field.find_first_not_of(' ');
    field = first == std::string_view::npos ? "" : field.substr(first);
    field = field.substr(0, field.find_last_not_of(' ') + 1);
    std::int64_t value = 0;
    const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || stop != field.data() + field.size() || value < min || value > max) {
      reject(fmt::format("{} is {}, must be an integer {}..{}", name, quote(field), min, max));
    }
    return value;
  }

  /// Throws Error{kInput} naming the line and the column of the field last read.
  [[noreturn]] void reject(std::string_view message) const {
    fail(file_, fmt::format("line {}, column {}: {}", number_, field_ + 1, message));
  }

  [[noreturn]] void reject_line(std::string_view message) const {
    fail(file_, fmt::format("line {}: {}", number_, message));
  }

 private:
  void start_line() {
    line_end_ = std::min(text_.find('\n', line_start_), text_.size());
    line_ = text_.substr(line_start_, line_end_ - line_start_);
    if (line_.ends_with('\r')) line_.remove_suffix(1);
    next_ = field_ = 0;
  }

  std::string_view text_;
  std::string_view file_;
  std::string_view line_;
  std::size_t line_start_ = 0;
  std::size_t line_end_ = 0;
  std::size_t number_ = 1;
  std::size_t field_ = 0;  ///< start of the field last read, in line_
  std::size_t next_ = 0;   ///< start of the field to read; beyond line_ when there is none
};

struct Cell {
  std::array<std::int64_t, 3> at;  ///< token, layer, k
  std::int32_t expert;
  std::size_t line;
};

constexpr std::array<const char*, 3> kAxes = {"token", "layer", "k"};

/// Rows `token,layer,k,expert` in any order. Nothing is allocated by what a row says, only by how
/// many rows there are.
RoutingTrace read_cells(CsvReader& csv, const CsvLayout& layout, TraceInfo info,
                        std::string_view file) {
  constexpr std::int64_t kMaxIndex = std::numeric_limits<int>::max() - 1;
  std::array<std::int64_t, 3> size = {1, std::max(layout.num_layers, 1), std::max(layout.topk, 1)};
  const std::array<std::int64_t, 3> last = {
      kMaxIndex, layout.num_layers > 0 ? layout.num_layers - 1 : kMaxIndex,
      layout.topk > 0 ? layout.topk - 1 : kMaxIndex};
  std::vector<Cell> cells;
  std::size_t line = 1;
  for (csv.next_line(); !csv.at_end(); csv.next_line()) {
    Cell cell{{}, 0, ++line};
    for (std::size_t axis = 0; axis < 3; ++axis) {
      if (csv.line_done()) break;
      cell.at[axis] = csv.integer(kAxes[axis], 0, last[axis]);
      size[axis] = std::max(size[axis], cell.at[axis] + 1);
    }
    if (csv.line_done()) csv.reject_line(fmt::format("too few fields, must be {}", kHeader));
    cell.expert = static_cast<std::int32_t>(csv.integer("expert", kMasked, info.num_experts - 1));
    if (!csv.line_done()) csv.reject_line(fmt::format("too many fields, must be {}", kHeader));
    cells.push_back(cell);
  }
  const auto rows = static_cast<std::int64_t>(cells.size());
  if (size[0] > rows || size[1] > rows / size[0] || size[2] > rows / (size[0] * size[1])) {
    fail(file, fmt::format("has {} rows, must have one for each of {} tokens x {} layers x {}",
                           rows, size[0], size[1], size[2]));
  }
  IdArray ids{nullptr, kIdType, size[0], static_cast<int>(size[1]), static_cast<int>(size[2])};
  std::vector<std::byte> bytes(ids.count() * sizeof(std::int32_t));
  std::vector<bool> seen(ids.count(), false);
  for (const Cell& cell : cells) {
    const auto at =
        static_cast<std::size_t>((cell.at[0] * size[1] + cell.at[1]) * size[2] + cell.at[2]);
    if (seen[at]) {
      fail(file, fmt::format("line {}: token {}, layer {}, k {} stands twice", cell.line,
                             cell.at[0], cell.at[1], cell.at[2]));
    }
    seen[at] = true;
    store_le(cell.expert, &bytes[at * sizeof(std::int32_t)]);
  }
  return own_trace(std::move(bytes), ids, std::move(info), file);
}

/// Rows of layers * topk ids, one for each token.
RoutingTrace read_token_rows(CsvReader& csv, const CsvLayout& layout, TraceInfo info,
                             std::string_view file) {
  if (layout.num_layers < 1 || layout.topk < 1) {
    fail(file, fmt::format("line 1: is not the header {}; rows of layers x topk ids need both "
                           "numbers given",
                           kHeader));
  }
  const std::int64_t width = std::int64_t{layout.num_layers} * layout.topk;
  IdArray ids{nullptr, kIdType, 0, layout.num_layers, layout.topk};
  std::vector<std::byte> bytes;
  for (; !csv.at_end(); csv.next_line(), ++ids.num_tokens) {
    const std::string_view line = csv.line();
    const std::int64_t fields = std::count(line.begin(), line.end(), ',') + 1;
    if (fields != width) {
      csv.reject_line(fmt::format("has {} fields, must have {} ({} layers x {} ids)", fields, width,
                                  layout.num_layers, layout.topk));
    }
    std::size_t next = bytes.size();
    bytes.resize(next + static_cast<std::size_t>(width) * sizeof(std::int32_t));
    for (; !csv.line_done(); next += sizeof(std::int32_t)) {
      store_le(static_cast<std::int32_t>(csv.integer("expert", kMasked, info.num_experts - 1)),
               &bytes[next]);
    }
  }
  return own_trace(std::move(bytes), ids, std::move(info), file);
}

}  // namespace

RoutingTrace parse_csv_trace(std::string_view text, const CsvLayout& layout, TraceInfo info,
                             std::string_view file) {
  if (info.num_experts < 1 || info.num_experts > kMaxExperts) {
    throw Error(ErrorCode::kUsage,
                fmt::format("num_experts is {}, must be 1..{}", info.num_experts, kMaxExperts));
  }
  CsvReader csv(text, file);
  if (csv.at_end()) fail(file, "is empty");
  return csv.line() == kHeader ? read_cells(csv, layout, std::move(info), file)
                               : read_token_rows(csv, layout, std::move(info), file);
}

RoutingTrace read_csv_trace(const std::filesystem::path& path, const CsvLayout& layout,
                            TraceInfo info) {
  const FileBytes file(path);
  return parse_csv_trace(as_text(file.bytes()), layout, std::move(info), path.string());
}

}  // namespace metro::io
