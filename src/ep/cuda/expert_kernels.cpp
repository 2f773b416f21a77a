// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/expert_kernels.hpp"

#include <algorithm>
#include <string>

#include "cuda/check.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

/// The best first.
const ExpertKernel* const kTable[] = {&kHopperExpertKernel, &kPortableExpertKernel};

int attribute(cudaDeviceAttr name) {
  int device = 0;
  int value = 0;
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(cudaDeviceGetAttribute(&value, name, device));
  return value;
}

}  // namespace

const ExpertKernel& choose_expert_kernel(const ExpertStageSizes& sizes) {
  const int capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                         attribute(cudaDevAttrComputeCapabilityMinor);
  std::string names;
  for (const ExpertKernel* kernel : kTable) {
    const bool wanted = sizes.kernel.empty() ? kernel->suits(sizes) : sizes.kernel == kernel->name;
    if (wanted && kernel->serves(sizes, capability)) return *kernel;
    names += (names.empty() ? "" : ", ") + std::string(kernel->name);
  }
  throw Error(ErrorCode::kUsage, "expert stage: no kernel \"" + std::string(sizes.kernel) +
                                     "\" for these sizes on this device (there are: " + names +
                                     ")");
}

int shared_memory_limit(int limit) {
  const int most = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return limit > 0 ? std::min(most, limit) : most;
}

ExpertLaunch resident_blocks(const void* kernel, int threads, int shared_bytes, int max_groups,
                             int group_tokens, int most_shared) {
  const int most_groups = std::max((most_shared - shared_bytes) / 8, 0);
  if (max_groups > most_groups) {
    throw Error(ErrorCode::kUsage, "expert stage: at most " +
                                       std::to_string(most_groups * group_tokens) +
                                       " (token, k) pairs fit this device");
  }
  ExpertLaunch launch{.shared_bytes = shared_bytes + max_groups * 8};
  int resident = 0;
  METRO_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most_shared));
  METRO_CUDA_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(
      &resident, kernel, threads, static_cast<std::size_t>(launch.shared_bytes)));
  launch.blocks = attribute(cudaDevAttrMultiProcessorCount) * std::max(resident, 1);
  return launch;
}

void launch_resident(void (*kernel)(ExpertParams), int threads, const ExpertParams& params,
                     const ExpertLaunch& launch, cudaStream_t stream) {
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(launch.shared_bytes);
  config.stream = stream;
  config.attrs = &cooperative;
  config.numAttrs = 1;
  ExpertParams copy = params;  // the runtime takes arguments as void*
  void* arguments[] = {&copy};
  METRO_CUDA_CHECK(cudaLaunchKernelExC(&config, reinterpret_cast<const void*>(kernel), arguments));
}

}  // namespace metro::ep::cuda
