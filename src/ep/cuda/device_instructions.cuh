// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <cuda/ptx>

/// The instructions that the expert kernel is made of, where CUDA C++ and cuda::ptx have none.
namespace metro::ep::cuda {

/// Copies 16 bytes to shared memory, past the L1 cache, or writes zeros there. The whole line comes
/// to the L2 cache: the rest of it is wanted next.
__device__ inline void copy_async(std::uint32_t to, const void* from, bool zeros) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
               "r"(zeros ? 0 : 16));
}

/// The same without a branch, which would keep copies that follow one another from overlapping.
__device__ inline void copy_async_if(bool wanted, std::uint32_t to, const void* from) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %2, 0;\n"
      "@wanted cp.async.cg.shared.global.L2::128B [%0], [%1], 16;\n}" ::"r"(to),
      "l"(from), "r"(wanted ? 1 : 0));
}
/// Copies 4 bytes.
__device__ inline void copy_word_async_if(bool wanted, std::uint32_t to, const void* from) {
  asm volatile(
      "{\n.reg .pred wanted;\nsetp.ne.b32 wanted, %2, 0;\n"
      "@wanted cp.async.ca.shared.global [%0], [%1], 4;\n}" ::"r"(to),
      "l"(from), "r"(wanted ? 1 : 0));
}

__device__ inline void end_copy_stage() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kNewer>
__device__ inline void wait_copy_stage() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNewer) : "memory");
}

/// CCCL names a barrier by its generic pointer, and turns that back to the address in shared
/// memory; the compiler drops both.
__device__ inline std::uint64_t* barrier_at(std::uint32_t barrier) {
  return static_cast<std::uint64_t*>(__cvta_shared_to_generic(barrier));
}

/// A barrier in shared memory that so many arrivals complete.
__device__ inline void init_barrier(std::uint32_t barrier, unsigned arrivals) {
  ::cuda::ptx::mbarrier_init(barrier_at(barrier), arrivals);
}
__device__ inline void arrive(std::uint32_t barrier) {
  static_cast<void>(::cuda::ptx::mbarrier_arrive(barrier_at(barrier)));
}
/// Waits for the end of the barrier's turn 0, 1, 0, ... (Not by cuda::ptx: its answer is a number
/// that is compared again, which costs the kernel registers and spills.)
__device__ inline void wait_barrier(std::uint32_t barrier, unsigned turn) {
#if __CUDA_ARCH__ >= 900
#define METRO_WAIT "mbarrier.try_wait.parity.shared.b64"  // sleeps meanwhile
#else
#define METRO_WAIT "mbarrier.test_wait.parity.shared.b64"
#endif
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n" METRO_WAIT
      " done, [%0], %1;\n"
      "@!done bra again;\n"
      "}" ::"r"(barrier),
      "r"(turn)
      : "memory");
#undef METRO_WAIT
}
/// Arrives when this thread's copies so far have ended. (Not by cuda::ptx, which gives this one a
/// shared address without saying `.shared`: PTX takes that for a generic one.)
__device__ inline void arrive_after_copies(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(barrier) : "memory");
}
/// A barrier of so many threads of the block, always the same for one name.
template <int kCount, int kName = 1>
__device__ inline void sync_threads() {
  asm volatile("bar.sync %0, %1;" ::"n"(kName), "n"(kCount) : "memory");
}

__device__ inline uint4 load_shared(std::uint32_t from) {
  uint4 value;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "r"(from)
               : "memory");
  return value;
}

__device__ inline float4 load_shared_floats(std::uint32_t from) {
  float4 value;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "r"(from)
               : "memory");
  return value;
}

__device__ inline float load_shared_float(std::uint32_t from) {
  float value;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(from) : "memory");
  return value;
}

__device__ inline float2 load_shared_pair(std::uint32_t from) {
  float2 value;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
               : "=f"(value.x), "=f"(value.y)
               : "r"(from)
               : "memory");
  return value;
}

/// The larger of two floats that are not negative.
__device__ inline void max_shared(std::uint32_t at, float value) {
  asm volatile("red.shared.max.s32 [%0], %1;" ::"r"(at), "r"(__float_as_int(value)) : "memory");
}

__device__ inline void store_shared(std::uint32_t to, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}

/// sums [16 x 8] += a [16 x 16] * b [16 x 8], bf16 in, float32 sums.
__device__ inline void multiply_add(float (&sums)[4], std::uint32_t a0, std::uint32_t a1,
                                    std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                                    std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/// Four e4m3 values to four bf16, times `scale` / 2^120, exactly. The exponent field moves to its
/// place, and 2^120 makes up for the difference of the two biases, subnormals included. NaN is not
/// kept: weights have none.
__device__ inline uint2 widen_fp8(std::uint32_t packed, __nv_bfloat162 scale) {
  uint2 wide;
  const std::uint32_t low = __byte_perm(packed, 0, 0x1404);
  const std::uint32_t high = __byte_perm(packed, 0, 0x3424);
  wide.x = (low & 0x80008000U) | ((low & 0x7f007f00U) >> 4);
  wide.y = (high & 0x80008000U) | ((high & 0x7f007f00U) >> 4);
  auto* pairs = reinterpret_cast<__nv_bfloat162*>(&wide);
  pairs[0] = __hmul2(pairs[0], scale);
  pairs[1] = __hmul2(pairs[1], scale);
  return wide;
}

__device__ inline std::int32_t load_acquire(const std::int32_t* from) {
  std::int32_t value;
  asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}

__device__ inline void add_release(std::int32_t* to) {
  asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(to) : "memory");
}

}  // namespace metro::ep::cuda
