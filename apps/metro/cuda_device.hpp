// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace metro::cli {

/// For `--device cuda`: throws Error{kDevice} in the words of the command line where this build or
/// this machine has no CUDA.
void require_cuda_device();

}  // namespace metro::cli
