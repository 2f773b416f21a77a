// SPDX-License-Identifier: Apache-2.0
#include "cuda/active_kernel_select.cuh"

namespace metro::cuda {

Kernel active_kernel(DevicePolicy policy, const TableLayout& layout, int vectors) {
  return select_active_kernel<false>(policy, layout, vectors);
}

}  // namespace metro::cuda
