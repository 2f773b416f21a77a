// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include "metro/cuda/exchange.hpp"

namespace metro::cuda {

/// Exchange by ncclAllGather, between two kernels: works across nodes, and costs its latency.
/// The communicator is the caller's and must outlive this. (Target metro::cuda_nccl.)
class NcclExchange final : public Exchange {
 public:
  /// Throws Error{kDevice} with NCCL's words.
  explicit NcclExchange(ncclComm_t communicator);

 private:
  void all_gather(const std::uint32_t* message, std::uint32_t* gathered, int num_words,
                  cudaStream_t stream) override;

  ncclComm_t communicator_;
};

}  // namespace metro::cuda
