// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>

namespace metro::ep {

/// bf16 and fp8 (e4m3: no infinities, 448 the largest), rounded to nearest even. Finite values
/// only.
[[nodiscard]] constexpr std::uint16_t to_bf16(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

[[nodiscard]] constexpr float from_bf16(std::uint16_t value) noexcept {
  return std::bit_cast<float>(std::uint32_t{value} << 16);
}

/// Values beyond 448 saturate.
[[nodiscard]] constexpr std::uint8_t to_e4m3(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 24) & 0x80U;
  const std::uint32_t size = bits & 0x7fffffffU;
  if (size >= std::bit_cast<std::uint32_t>(448.0F)) return static_cast<std::uint8_t>(sign | 0x7eU);
  if (size < std::bit_cast<std::uint32_t>(0x1p-6F)) {
    // Subnormal, in steps of 2^-9: those of a float at 2^14, so that the addition rounds.
    const float shifted = std::bit_cast<float>(size) + 0x1p14F;
    return static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(shifted) & 0xfU));
  }
  const std::uint32_t rounded = (size + 0x7ffffU + ((size >> 20) & 1U)) >> 20;
  return static_cast<std::uint8_t>(sign | (rounded - ((127U - 7U) << 3)));
}

/// Without a branch, so that loops of it vectorise: as a float of the same exponent and mantissa,
/// subnormals too, it is 2^120 too small.
[[nodiscard]] constexpr float from_e4m3(std::uint8_t value) noexcept {
  const std::uint32_t sign = (value & 0x80U) << 24;
  const std::uint32_t size = (value & 0x7fU) << 20;
  return std::bit_cast<float>(sign | size) * 0x1p120F;
}

}  // namespace metro::ep
