// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "io/bytes.hpp"

namespace metro::io {

/// A NumPy number type that we read: 'u' or 'i' of 1, 2, 4 or 8 bytes, 'f' of 4 or 8.
struct DType {
  char kind = 'u';
  int bytes = 1;

  friend bool operator==(const DType&, const DType&) = default;
};

/// What `parse_dtype` takes of integers, for messages.
inline constexpr std::string_view kIntegerTypes = "|u1, |i1, <u2, <i2, <u4, <i4, <u8 or <i8";

/// Reads NumPy's spelling, such as "|u1" or "<i4"; nothing for any other type or byte order.
std::optional<DType> parse_dtype(std::string_view text) noexcept;

/// Calls `f` with a zero of the C++ type that `type` stands for.
template <typename F>
decltype(auto) with_type(DType type, F&& f) {
  if (type.kind == 'f') return type.bytes == 4 ? f(float{}) : f(double{});
  const bool is_signed = type.kind == 'i';
  switch (type.bytes) {
    case 1:
      return is_signed ? f(std::int8_t{}) : f(std::uint8_t{});
    case 2:
      return is_signed ? f(std::int16_t{}) : f(std::uint16_t{});
    case 4:
      return is_signed ? f(std::int32_t{}) : f(std::uint32_t{});
    default:
      return is_signed ? f(std::int64_t{}) : f(std::uint64_t{});
  }
}

}  // namespace metro::io
