// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace metro {

/// SplitMix64's output function: a bijection on 64 bits that passes statistical batteries.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) noexcept {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// `random_bits` scaled to [0, bound) without division; the bias is below bound / 2^32.
[[nodiscard]] constexpr std::uint32_t scale_to(std::uint64_t random_bits,
                                               std::uint32_t bound) noexcept {
  return static_cast<std::uint32_t>(((random_bits >> 32) * bound) >> 32);
}

/// A seeded sequence for sampling; the same numbers on every platform, unlike std::shuffle and
/// the standard distributions.
class Rng {
 public:
  explicit constexpr Rng(std::uint64_t seed) noexcept : state_(mix64(seed)) {}

  constexpr std::uint64_t next() noexcept {
    state_ += 0x9e3779b97f4a7c15ULL;
    return mix64(state_);
  }

  /// Uniform in [0, bound), bound >= 1.
  constexpr std::uint32_t below(std::uint32_t bound) noexcept { return scale_to(next(), bound); }

  /// Uniform in [0, 1) with 53 bits.
  constexpr double uniform() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

  /// Fisher-Yates.
  template <typename Range>
  constexpr void shuffle(Range& values) noexcept {
    for (std::size_t i = values.size(); i > 1; --i) {
      const std::size_t j = below(static_cast<std::uint32_t>(i));
      auto kept = values[i - 1];
      values[i - 1] = values[j];
      values[j] = kept;
    }
  }

 private:
  std::uint64_t state_;
};

}  // namespace metro
