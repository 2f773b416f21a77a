// SPDX-License-Identifier: Apache-2.0
// A communicator that does not block, played by this file: no GPU and no NCCL are needed.
#include "cuda/nccl_check.hpp"

#include <gtest/gtest.h>

#include <deque>
#include <string>

namespace {
std::deque<ncclResult_t> answers;  // NOLINT: what a communicator will say when asked
}  // namespace

ncclResult_t ncclCommGetAsyncError(ncclComm_t /*comm*/, ncclResult_t* status) {
  *status = answers.empty() ? ncclInProgress : answers.front();
  if (!answers.empty()) answers.pop_front();
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t status) {
  return status == ncclSystemError ? "system error" : "in progress";
}

namespace metro::cuda {
namespace {

std::string message_of(ncclResult_t status, std::deque<ncclResult_t> then,
                       std::chrono::milliseconds limit = std::chrono::hours(1)) {
  answers = std::move(then);
  try {
    check_nccl(status, "ncclAllGather", nullptr, limit);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(NcclCheck, WaitsForACallInProgress) {
  EXPECT_EQ(message_of(ncclSuccess, {}), "");
  EXPECT_EQ(message_of(ncclInProgress, {ncclInProgress, ncclInProgress, ncclSuccess}), "");
  EXPECT_TRUE(answers.empty());
}

TEST(NcclCheck, ThrowsWhatACallEndsWith) {
  EXPECT_EQ(message_of(ncclSystemError, {}), "ncclAllGather: system error");
  EXPECT_EQ(message_of(ncclInProgress, {ncclInProgress, ncclSystemError}),
            "ncclAllGather: system error");
  EXPECT_EQ(message_of(ncclInProgress, {}, std::chrono::milliseconds(20)),
            "ncclAllGather: in progress");  // it never ends
}

}  // namespace
}  // namespace metro::cuda
