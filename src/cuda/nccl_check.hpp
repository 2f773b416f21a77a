// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nccl.h>

#include <chrono>
#include <string>
#include <thread>

#include "metro/error.hpp"

namespace metro::cuda {

/// Throws Error{kDevice} with NCCL's words unless the call went well. A communicator that does not
/// block says ncclInProgress of a call that it goes on with: that is waited for, `limit` at most.
inline void check_nccl(ncclResult_t status, const char* call, ncclComm_t communicator,
                       std::chrono::milliseconds limit = std::chrono::minutes(1)) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (status == ncclInProgress && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
    const ncclResult_t asked = ncclCommGetAsyncError(communicator, &status);
    if (asked != ncclSuccess) status = asked;
  }
  if (status == ncclSuccess) return;
  throw Error(ErrorCode::kDevice, std::string(call) + ": " + ncclGetErrorString(status));
}

}  // namespace metro::cuda
