// SPDX-License-Identifier: Apache-2.0
#include "io/npy.hpp"

#include <fmt/format.h>

#include <limits>

#include "io/fail.hpp"

namespace metro::io {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

DType checked_type(const NpyHeader& header, std::string_view file) {
  const std::string& descr = header.descr;
  if (const auto type = parse_dtype(descr)) return *type;
  if (descr.starts_with('>')) {
    fail(file, fmt::format("dtype is {} (big-endian), must be little-endian", quote(descr)));
  }
  fail(file,
       fmt::format("dtype is {}, must be {} (<f4 or <f8 for loads)", quote(descr), kIntegerTypes));
}

std::size_t checked_count(const NpyHeader& header, std::size_t item_bytes, std::string_view file) {
  std::size_t count = 1;
  bool has_zero = false;
  for (const std::int64_t dim : header.shape) has_zero = has_zero || dim == 0;
  if (has_zero) return 0;
  const std::size_t max = std::numeric_limits<std::size_t>::max() / item_bytes;
  for (const std::int64_t dim : header.shape) {
    if (static_cast<std::uint64_t>(dim) > max / count) {
      fail(file, fmt::format("shape {} is too large to address", shape_text(header.shape)));
    }
    count *= static_cast<std::size_t>(dim);
  }
  return count;
}

}  // namespace

bool is_npy(Bytes file) noexcept { return as_text(file).starts_with(kMagic); }

NpyArray parse_npy(Bytes bytes, std::string_view file) {
  if (!is_npy(bytes)) fail(file, "is not a .npy file, which opens with \\x93NUMPY");
  constexpr std::size_t kVersionEnd = 8;
  if (bytes.size() < kVersionEnd + 2) fail(file, "npy header is cut short");
  const auto major = std::to_integer<int>(bytes[6]);
  const auto minor = std::to_integer<int>(bytes[7]);
  if (major < 1 || major > 3 || minor != 0) {
    fail(file, fmt::format("npy version is {}.{}, must be 1.0, 2.0 or 3.0", major, minor));
  }
  const std::size_t header_start = kVersionEnd + (major == 1 ? 2 : 4);
  if (bytes.size() < header_start) fail(file, "npy header is cut short");
  const std::size_t header_bytes = major == 1 ? load_le<std::uint16_t>(&bytes[kVersionEnd])
                                              : load_le<std::uint32_t>(&bytes[kVersionEnd]);
  if (header_bytes > bytes.size() - header_start) {
    fail(file, fmt::format("npy header says it has {} bytes, the file has {} after its length",
                           header_bytes, bytes.size() - header_start));
  }
  const NpyHeader header =
      parse_npy_header(as_text(bytes.subspan(header_start, header_bytes)), file);
  const DType type = checked_type(header, file);
  if (header.fortran_order) {
    fail(file, "fortran_order is True, must be False (save numpy.ascontiguousarray of it)");
  }
  const auto item_bytes = static_cast<std::size_t>(type.bytes);
  const std::size_t count = checked_count(header, item_bytes, file);
  const Bytes data = bytes.subspan(header_start + header_bytes);
  if (data.size() != count * item_bytes) {
    fail(file, fmt::format("has {} bytes of data, shape {} of {} needs {}", data.size(),
                           shape_text(header.shape), header.descr, count * item_bytes));
  }
  return {type, header.shape, data.data(), count};
}

void require_integers(const NpyArray& array, std::string_view file) {
  if (array.type.kind == 'f') {
    fail(file, fmt::format("dtype is '<f{}', must be {}", array.type.bytes, kIntegerTypes));
  }
}

void require_dims(const NpyArray& array, std::size_t dims, std::string_view names,
                  std::string_view file) {
  if (array.shape.size() != dims) {
    fail(file, fmt::format("shape is {}, must be {}", shape_text(array.shape), names));
  }
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("({}{})", fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
}

std::string format_npy_header(DType type, const std::vector<std::int64_t>& shape) {
  constexpr std::size_t kAlignment = 64;
  std::string literal =
      fmt::format("{{'descr': '{}{}{}', 'fortran_order': False, 'shape': {}, }}",
                  type.bytes == 1 ? '|' : '<', type.kind, type.bytes, shape_text(shape));
  const std::size_t opening = kMagic.size() + 4;
  while ((opening + literal.size() + 1) % kAlignment != 0) literal += ' ';
  literal += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\x00';
  header += static_cast<char>(literal.size() & 0xff);
  header += static_cast<char>(literal.size() >> 8);
  return header + literal;
}

}  // namespace metro::io
