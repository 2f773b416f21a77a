// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

namespace metro::io {

using Bytes = std::span<const std::byte>;

/// The bytes as characters.
inline std::string_view as_text(Bytes bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The characters as bytes.
inline Bytes text_bytes(std::string_view text) noexcept { return std::as_bytes(std::span(text)); }

/// The number stored little-endian at `at`, which need not be aligned.
template <typename T>
T load_le(const std::byte* at) noexcept {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), at, sizeof(T));
  if constexpr (std::endian::native == std::endian::big) std::reverse(bytes.begin(), bytes.end());
  return std::bit_cast<T>(bytes);
}

/// Stores `value` little-endian at `at`.
template <typename T>
void store_le(T value, std::byte* at) noexcept {
  auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  if constexpr (std::endian::native == std::endian::big) std::reverse(bytes.begin(), bytes.end());
  std::memcpy(at, bytes.data(), sizeof(T));
}

}  // namespace metro::io
