// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

namespace metro::ep::cuda {

/// Where one expert's weights lie on the device (layout: SlotWeights).
struct ExpertPointers {
  const void* gate_up = nullptr;
  const void* down = nullptr;
  const float* gate_up_scales = nullptr;  ///< fp8
  const float* down_scales = nullptr;
};

/// What a layer has besides its routed experts, on the device.
struct DenseWeights {
  const __nv_bfloat16* gate = nullptr;            ///< [experts][hidden]
  const __nv_bfloat16* shared_gate_up = nullptr;  ///< [2 * shared_intermediate][hidden]
  const __nv_bfloat16* shared_down = nullptr;     ///< [hidden][shared_intermediate]
};

}  // namespace metro::ep::cuda
