// SPDX-License-Identifier: Apache-2.0
// Ranks as threads: what they exchange, and how a rank that fails or hangs ends the others.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "metro/ep/local_transport.hpp"
#include "metro/ep/transport.hpp"
#include "metro/error.hpp"

namespace metro::test {
namespace {

using ep::run_local_ranks;
using ep::Transport;
using Clock = std::chrono::steady_clock;

/// What rank `from` sends to rank `to`: so many bytes, some of the blocks empty.
std::vector<std::byte> block(int from, int to) {
  return {static_cast<std::size_t>((from * 3 + to) % 5), static_cast<std::byte>(16 * from + to)};
}

TEST(LocalTransport, AllToAllBringsEveryBlock) {
  constexpr int kRanks = 5;
  run_local_ranks(kRanks, 30, [](Transport& transport) {
    for (int round = 0; round < 20; ++round) {
      std::vector<std::byte> send;
      std::vector<std::byte> expected;
      std::vector<std::size_t> send_bytes;
      std::vector<std::size_t> receive_bytes;
      for (int r = 0; r < kRanks; ++r) {
        const auto out = block(transport.rank(), r);
        const auto in = block(r, transport.rank());
        send.insert(send.end(), out.begin(), out.end());
        expected.insert(expected.end(), in.begin(), in.end());
        send_bytes.push_back(out.size());
        receive_bytes.push_back(in.size());
      }
      std::vector<std::byte> received(expected.size());
      transport.all_to_all(send, send_bytes, received, receive_bytes);
      EXPECT_EQ(received, expected);
    }
  });
}

TEST(LocalTransport, ReduceScatterAddsInRankOrder) {
  run_local_ranks(3, 30, [](Transport& transport) {
    // In any other order the large values would swallow the small one.
    const float values[] = {1e8F, -1e8F, 1.0F};
    const std::vector<std::size_t> counts = {0, 2, 1};
    const std::vector<float> send(3, values[transport.rank()]);
    std::vector<float> sum(counts[static_cast<std::size_t>(transport.rank())]);
    transport.reduce_scatter(send, sum, counts);
    for (const float value : sum) EXPECT_EQ(value, 1.0F);
  });
}

/// Runs ranks that are to fail within the time; returns the message.
std::string failure_of(int ranks, double timeout_s, double within_s,
                       const std::function<void(Transport&)>& work, ErrorCode code) {
  const auto start = Clock::now();
  try {
    run_local_ranks(ranks, timeout_s, work);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), within_s);
    return error.what();
  }
  return "no error";
}

TEST(LocalTransport, ARankThatThrowsEndsTheOthers) {
  const auto work = [](Transport& transport) {
    transport.barrier();
    if (transport.rank() == 2) throw Error(ErrorCode::kDevice, "out of luck");
    transport.barrier();
  };
  EXPECT_EQ(failure_of(4, 60, 30, work, ErrorCode::kDevice), "rank 2: out of luck");
}

TEST(LocalTransport, AFaultThatAllRanksShareIsToldAsItIs) {
  const auto work = [](Transport&) { throw Error(ErrorCode::kInput, "x.npy: no"); };
  EXPECT_EQ(failure_of(4, 60, 30, work, ErrorCode::kInput), "x.npy: no");
}

TEST(LocalTransport, ARankThatHangsEndsTheOthers) {
  const auto release = std::make_shared<std::atomic<bool>>(false);
  const auto work = [release](Transport& transport) {
    transport.barrier();
    while (transport.rank() == 1 && !*release) std::this_thread::yield();
    transport.barrier();
  };
  EXPECT_EQ(failure_of(3, 0.3, 20, work, ErrorCode::kDevice),
            "rank 1 of 3 did not answer within 0.3 s");
  *release = true;
}

TEST(LocalTransport, ARankThatNeverReturnsIsNoticed) {
  const auto release = std::make_shared<std::atomic<bool>>(false);
  const auto work = [release](Transport& transport) {
    transport.barrier();
    while (transport.rank() == 0 && !*release) std::this_thread::yield();
  };
  EXPECT_EQ(failure_of(2, 0.3, 20, work, ErrorCode::kDevice),
            "rank 0 of 2 did not answer within 0.3 s");
  *release = true;
}

}  // namespace
}  // namespace metro::test
