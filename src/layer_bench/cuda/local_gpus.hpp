// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include <functional>

namespace metro::layer_bench::cuda {

/// Calls `work(rank, id)` on a thread for each of the first `gpus` devices, which is that thread's
/// current one; `id` is for a communicator of them all. Rethrows what the first rank to fail threw:
/// the others only say that a rank is lost.
void run_local_gpus(int gpus, const std::function<void(int, const ncclUniqueId&)>& work);

}  // namespace metro::layer_bench::cuda
