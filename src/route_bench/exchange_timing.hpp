// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro::route_bench {

/// What a call of `optimal` takes with its exchange between GPUs, of the slowest of them; us.
struct ExchangeTimes {
  double peer_us = 0;          ///< through peers' memory, in the router's kernel
  double nccl_us = 0;          ///< by ncclAllGather, between two kernels; 0: this build has no NCCL
  std::uint32_t timeouts = 0;  ///< of the first, in all timed calls
};

/// Times it on the first `gpus` devices, a rank and a thread each, in CUDA graphs of 64 calls; each
/// rank has its share of every batch, which must be a multiple of 4 tokens. Throws Error{kDevice},
/// also when a rank routes otherwise than the CPU does with the whole batch.
ExchangeTimes time_exchanges(const Placement& placement, const std::vector<TopkBatch>& batches,
                             int gpus);

}  // namespace metro::route_bench
