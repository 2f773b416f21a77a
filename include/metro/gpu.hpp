// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "metro/model.hpp"

namespace metro {

/// What a GPU can do at best, from its datasheet: dense rates, one direction of each link.
///
/// What kernels reach of it is the cost model's to say (metro/cost.hpp).
struct GpuSpec {
  std::string_view name;
  double memory_bytes;
  double memory_bytes_per_s;
  double bf16_flops;
  double fp8_flops;  ///< 0: the GPU has no such unit
  double fp4_flops;  ///< 0: the GPU has no such unit
  double link_bytes_per_s;
  int gpus_per_domain;  ///< GPUs that the fast links join
  double internode_bytes_per_s;

  /// Rate for weights of that type: that of the narrowest unit which is at least as wide, as
  /// kernels widen weights that the GPU cannot multiply.
  [[nodiscard]] double flops(DataType weights) const noexcept;
};

/// The GPU of that name in any case ("H200", "b200_sxm"), or nullptr.
const GpuSpec* find_gpu(std::string_view name) noexcept;

/// The GPU that a driver's name for a device speaks of ("NVIDIA H100 80GB HBM3"), or nullptr.
const GpuSpec* find_gpu_of_device(std::string_view device) noexcept;

/// Names that `find_gpu` knows, one a GPU.
std::vector<std::string_view> gpu_names();

}  // namespace metro
