// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "metro/model.hpp"

/// Hopper's matrix product of a warpgroup (wgmma; sm_90a). Both sides lie in shared memory, a row
/// of the depth in 128 bytes, the 16-byte pieces of row r swapped by r % 8 ("128-byte swizzle").
namespace metro::ep::cuda {

inline constexpr int kSlabBytes = 128;  ///< of a row, that one operand holds

/// Where piece `piece` of 16 bytes of row `row` lies, from the operand's first byte.
__device__ inline std::uint32_t swizzled(int row, int piece) {
  return static_cast<std::uint32_t>(row * kSlabBytes + ((piece ^ (row & 7)) << 4));
}

/// Names an operand that begins at `at`; rows begin at a multiple of 1,024 bytes.
__device__ inline std::uint64_t operand(std::uint32_t at) {
  constexpr std::uint64_t kEightRows = 8 * kSlabBytes / 16;  // from one to the next, in 16 bytes
  constexpr std::uint64_t kSwizzle128 = 1;
  return std::uint64_t{(at & 0x3ffffU) >> 4} | (std::uint64_t{1} << 16) | (kEightRows << 32) |
         (kSwizzle128 << 62);
}

__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kNewer>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kNewer) : "memory");
}
/// What ordinary copies have brought to shared memory, the products after this may read.
__device__ inline void show_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Operands of the instruction: the sums, then both operands' names and whether to add.
#define METRO_D4(i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define METRO_D8(i) METRO_D4(i), METRO_D4((i) + 4)
#define METRO_D16(i) METRO_D8(i), METRO_D8((i) + 8)
#define METRO_D32(i) METRO_D16(i), METRO_D16((i) + 16)
#define METRO_L4 "%0, %1, %2, %3"
#define METRO_L8 METRO_L4 ", %4, %5, %6, %7"
#define METRO_L16 METRO_L8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define METRO_L32 \
  METRO_L16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define METRO_WGMMA(n, sums, list, a_at, b_at, add_at)                                       \
  if constexpr (kWeights == DataType::kBf16) {                                               \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_at                              \
                 ", 0;\n"                                                                    \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32.bf16.bf16 {" list "}, " a_at \
                 ", " b_at ", add, 1, 1, 0, 0;\n}"                                           \
                 : sums                                                                      \
                 : "l"(a), "l"(b), "r"(add ? 1 : 0));                                        \
  } else {                                                                                   \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add_at                              \
                 ", 0;\n"                                                                    \
                 "wgmma.mma_async.sync.aligned.m64n" n "k32.f32.e4m3.e4m3 {" list "}, " a_at \
                 ", " b_at ", add, 1, 1;\n}"                                                 \
                 : sums                                                                      \
                 : "l"(a), "l"(b), "r"(add ? 1 : 0));                                        \
  }

/// d [64 features x 2 * kSums tokens] (+)= 32 bytes of the depth of a, times those of b. A lane
/// holds of every 8 tokens 4 sums: row lane / 4 of its warp's 16, tokens 2 * (lane % 4) and the
/// next, then the same of row + 8.
template <DataType kWeights, int kSums>
__device__ __forceinline__ void product(float (&d)[kSums], std::uint64_t a, std::uint64_t b,
                                        bool add) {
  if constexpr (kSums == 4) {
    METRO_WGMMA("8", METRO_D4(0), METRO_L4, "%4", "%5", "%6")
  } else if constexpr (kSums == 8) {
    METRO_WGMMA("16", METRO_D8(0), METRO_L8, "%8", "%9", "%10")
  } else if constexpr (kSums == 16) {
    METRO_WGMMA("32", METRO_D16(0), METRO_L16, "%16", "%17", "%18")
  } else {
    static_assert(kSums == 32);
    METRO_WGMMA("64", METRO_D32(0), METRO_L32, "%32", "%33", "%34")
  }
}

#undef METRO_WGMMA
#undef METRO_L32
#undef METRO_L16
#undef METRO_L8
#undef METRO_L4
#undef METRO_D32
#undef METRO_D16
#undef METRO_D8
#undef METRO_D4

/// The depth of a slab, of both operands: 4 products of 32 bytes.
template <DataType kWeights, int kSums>
__device__ __forceinline__ void slab_product(float (&d)[kSums], std::uint32_t weights,
                                             std::uint32_t tokens, bool add) {
  const std::uint64_t a = operand(weights);
  const std::uint64_t b = operand(tokens);
#pragma unroll
  for (int i = 0; i < kSlabBytes / 32; ++i) {
    product<kWeights>(d, a + static_cast<std::uint64_t>(2 * i),
                      b + static_cast<std::uint64_t>(2 * i), add || i > 0);
  }
}

/// Turns an 8 x 8 matrix of 16-bit values over its diagonal: a lane's two of row lane / 4 become
/// two of column lane / 4.
__device__ inline std::uint32_t transpose(std::uint32_t pair) {
  std::uint32_t turned;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(turned) : "r"(pair));
  return turned;
}

}  // namespace metro::ep::cuda
