// SPDX-License-Identifier: Apache-2.0
#include "metro/gpu.hpp"

namespace metro {

double GpuSpec::flops(DataType weights) const noexcept {
  if (weights == DataType::kFp4 && fp4_flops > 0) return fp4_flops;
  // fp4 weights on a GPU without fp4 units meet bf16 activations.
  if (weights == DataType::kFp8 && fp8_flops > 0) return fp8_flops;
  return weights == DataType::kFloat32 ? bf16_flops / 2 : bf16_flops;
}

}  // namespace metro
