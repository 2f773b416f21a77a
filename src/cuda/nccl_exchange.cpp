// SPDX-License-Identifier: Apache-2.0
#include "metro/cuda/nccl_exchange.hpp"

#include "cuda/nccl_check.hpp"

namespace metro::cuda {
namespace {

int rank_in(ncclComm_t communicator) {
  int rank = 0;
  check_nccl(ncclCommUserRank(communicator, &rank), "ncclCommUserRank", communicator);
  return rank;
}

int ranks_of(ncclComm_t communicator) {
  int count = 0;
  check_nccl(ncclCommCount(communicator, &count), "ncclCommCount", communicator);
  return count;
}

}  // namespace

NcclExchange::NcclExchange(ncclComm_t communicator)
    : Exchange(rank_in(communicator), ranks_of(communicator)), communicator_(communicator) {}

void NcclExchange::all_gather(const std::uint32_t* message, std::uint32_t* gathered, int num_words,
                              cudaStream_t stream) {
  check_nccl(ncclAllGather(message, gathered, static_cast<std::size_t>(num_words), ncclUint32,
                           communicator_, stream),
             "ncclAllGather", communicator_);
}

}  // namespace metro::cuda
