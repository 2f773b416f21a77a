// SPDX-License-Identifier: Apache-2.0
#include "cuda/check.hpp"
#include "gpu/early_kernels.hpp"

namespace metro::test {
namespace {

constexpr long long kCycles = 400'000;  // 0.2 ms, many times a launch

__global__ void produce(const std::int32_t* from, std::int32_t* to, int count) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  const long long begin = clock64();
  while (clock64() - begin < kCycles) {
  }
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    to[i] = from[i];
  }
}

}  // namespace

void launch_early_producer(const std::int32_t* from, std::int32_t* to, int count,
                           cudaStream_t stream) {
  produce<<<1, 256, 0, stream>>>(from, to, count);
  METRO_CUDA_CHECK(cudaGetLastError());
}

}  // namespace metro::test
