// SPDX-License-Identifier: Apache-2.0
#include "metro/cuda/nccl_exchange.hpp"

#include <string>

#include "metro/error.hpp"

namespace metro::cuda {
namespace {

void check(ncclResult_t status, const char* call) {
  if (status == ncclSuccess) return;
  throw Error(ErrorCode::kDevice, std::string(call) + ": " + ncclGetErrorString(status));
}

int rank_in(ncclComm_t communicator) {
  int rank = 0;
  check(ncclCommUserRank(communicator, &rank), "ncclCommUserRank");
  return rank;
}

int ranks_of(ncclComm_t communicator) {
  int count = 0;
  check(ncclCommCount(communicator, &count), "ncclCommCount");
  return count;
}

}  // namespace

NcclExchange::NcclExchange(ncclComm_t communicator)
    : Exchange(rank_in(communicator), ranks_of(communicator)), communicator_(communicator) {}

void NcclExchange::all_gather(const std::uint32_t* message, std::uint32_t* gathered, int num_words,
                              cudaStream_t stream) {
  check(ncclAllGather(message, gathered, static_cast<std::size_t>(num_words), ncclUint32,
                      communicator_, stream),
        "ncclAllGather");
}

}  // namespace metro::cuda
