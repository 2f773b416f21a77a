// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/rng.hpp"

namespace metro::layer_bench {

/// Which matrix of an expert a random weight is of. The gate's own matrix and a shared expert stand
/// where expert ids end.
enum class MatrixKind : std::uint8_t { kGateUp = 0, kDown = 1, kRouter = 2 };

/// Starts the stream of one matrix.
[[nodiscard]] constexpr std::uint64_t weight_key(std::uint64_t seed, std::uint32_t expert,
                                                 MatrixKind kind) noexcept {
  return mix64(mix64(seed) + std::uint64_t{expert} * 4 + static_cast<std::uint64_t>(kind));
}

/// Uniform in [-1, 1) on a grid of 2^-23, so exact in fp32, on CPU and GPU alike. `index` is
/// row * cols + col of the *whole* matrix: every rank makes its own part of it, without a message.
/// A weight is this times sqrt(3 / cols), which keeps the variance of what it multiplies; fp8 is
/// e4m3(448 * this) with all scales sqrt(3 / cols) / 448.
[[nodiscard]] constexpr float unit_weight(std::uint64_t key, std::uint64_t index) noexcept {
  const auto bits = static_cast<std::uint32_t>(mix64(key + index) >> 40);
  return static_cast<float>(static_cast<std::int32_t>(bits)) * 0x1p-23F - 1.0F;
}

}  // namespace metro::layer_bench
