// SPDX-License-Identifier: Apache-2.0
#include "cuda_device.hpp"

#include "metro/error.hpp"
#if METRO_HAVE_CUDA
#include "cuda/device_name.hpp"
#endif

namespace metro::cli {

void require_cuda_device() {
#if METRO_HAVE_CUDA
  if (cuda::has_device()) return;
  throw Error(ErrorCode::kDevice, "--device is cuda, but there is no CUDA device, use cpu");
#else
  throw Error(ErrorCode::kDevice, "--device is cuda, but this build has no CUDA part, use cpu");
#endif
}

}  // namespace metro::cli
