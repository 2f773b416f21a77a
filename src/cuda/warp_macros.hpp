// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

/// Lets the warp algorithms compile for the GPU and, for their tests, for the CPU.
#ifdef __CUDACC__
#define METRO_DEVICE __device__ __forceinline__
#define METRO_UNROLL _Pragma("unroll")
#else
#include <bit>
#define METRO_DEVICE inline
#define METRO_UNROLL
#endif

namespace metro::cuda {

#ifdef __CUDACC__
METRO_DEVICE int count_bits(std::uint32_t bits) { return __popc(bits); }
METRO_DEVICE int count_bits(std::uint64_t bits) { return __popcll(bits); }
METRO_DEVICE int lowest_bit(std::uint32_t bits) { return __ffs(static_cast<int>(bits)) - 1; }
METRO_DEVICE int lowest_bit(std::uint64_t bits) {
  return __ffsll(static_cast<long long>(bits)) - 1;
}
#else
inline int count_bits(std::uint32_t bits) { return std::popcount(bits); }
inline int count_bits(std::uint64_t bits) { return std::popcount(bits); }
inline int lowest_bit(std::uint32_t bits) { return std::countr_zero(bits); }
inline int lowest_bit(std::uint64_t bits) { return std::countr_zero(bits); }
#endif

METRO_DEVICE int min_of(int a, int b) { return a < b ? a : b; }
METRO_DEVICE int max_of(int a, int b) { return a > b ? a : b; }

/// Exact for 0 <= value <= 2^16 and 1 <= divisor <= 64: the error of the reciprocal is far below
/// the distance to the next integer. Integer division would cost three times as much.
METRO_DEVICE int ceil_divide(int value, int divisor) {
  const float quotient = static_cast<float>(value + divisor - 1) + 0.5F;
#ifdef __CUDA_ARCH__
  return static_cast<int>(__fdividef(quotient, static_cast<float>(divisor)));
#else
  return static_cast<int>(quotient / static_cast<float>(divisor));
#endif
}

}  // namespace metro::cuda
