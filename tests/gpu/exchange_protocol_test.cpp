// SPDX-License-Identifier: Apache-2.0
// What the exchange's kernels do with peers' memory, run by threads of the CPU: what comes late,
// not at all, twice, or from before a reset.
#include "cuda/exchange_protocol.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

namespace metro::cuda {
namespace {

using std::chrono::milliseconds;

constexpr int kWords = 3;  // of a message: one of a bitmap, and the tail
constexpr std::uint32_t kEpoch = 77;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// Memory of this process, and how often it was touched.
struct LocalLink {
  std::atomic<int>* touched;

  void send(std::uint64_t* to, std::uint64_t word) const {
    ++*touched;
    std::atomic_ref(*to).store(word, std::memory_order_relaxed);
  }
  std::uint64_t read(const std::uint64_t* from) const {
    ++*touched;
    std::this_thread::yield();
    return std::atomic_ref(*const_cast<std::uint64_t*>(from)).load(std::memory_order_relaxed);
  }
  std::uint64_t now_ns() const {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  }
};

/// One rank's memory and what a kernel does in a call.
class Rank {
 public:
  Rank(int rank, int num_ranks)
      : buffer(at(2 * num_ranks * kMaxMessageWords)), rank_(rank), num_ranks_(num_ranks) {
    state.fault = kFaultNotConnected;
    state.fault_on_host = &fault_on_host;
  }

  void start_generation(std::uint32_t generation) {
    state.step = 0;
    state.generation = generation;
    state.fault = 0;
    fault_on_host = 0;
  }

  /// Sends `value` as bitmap and token count. What it takes all ranks' messages to be.
  std::vector<std::uint32_t> call(std::uint32_t value, milliseconds timeout = milliseconds(2000)) {
    const std::uint32_t message[kWords] = {value, value, kEpoch};
    const PeerView peers{buffers.data(), rank_, num_ranks_,
                         std::chrono::nanoseconds(timeout).count()};
    std::vector<std::uint32_t> gathered(at(num_ranks_ * kWords), 0xDEADU);
    const ExchangeCall call = next_call(state);
    std::uint32_t faults = 0;
    if (!call.stopped) {
      const auto take = [&](int rank, int index, std::uint32_t word) {
        gathered[at(rank * kWords + index)] = word;
      };
      faults = exchange_messages(LocalLink{&touched}, peers, call.tag, message, kWords, 0, 1, take);
    }
    end_call(state, call, faults);
    if (call.stopped || faults != 0) {
      for (int i = 0; i < num_ranks_ * kWords; ++i) {
        gathered[at(i)] = word_without_peers(peers, message, kWords, i / kWords, i % kWords);
      }
    }
    return gathered;
  }

  std::vector<std::uint64_t> buffer;
  std::vector<std::uint64_t*> buffers;
  ExchangeState state;
  std::uint32_t fault_on_host = 0;
  std::atomic<int> touched{0};

 private:
  int rank_;
  int num_ranks_;
};

class World {
 public:
  explicit World(int num_ranks) {
    for (int r = 0; r < num_ranks; ++r) ranks_.push_back(std::make_unique<Rank>(r, num_ranks));
    connect();
  }

  /// As PeerExchange::connect: one more than any rank's generation.
  void connect() {
    std::uint32_t generation = 0;
    for (const auto& rank : ranks_) generation = std::max(generation, rank->state.generation);
    for (const auto& rank : ranks_) {
      rank->buffers.clear();
      for (const auto& peer : ranks_) rank->buffers.push_back(peer->buffer.data());
      rank->start_generation(generation + 1);
    }
  }
  void reset() {
    for (const auto& rank : ranks_) rank->start_generation(rank->state.generation + 1);
  }
  void restart(int rank) {
    ranks_[at(rank)] = std::make_unique<Rank>(rank, static_cast<int>(ranks_.size()));
  }

  Rank& operator[](int rank) { return *ranks_[at(rank)]; }

  /// A call of every rank at once; all must have understood each other.
  void expect_exchange(std::uint32_t value) {
    std::vector<std::vector<std::uint32_t>> all(ranks_.size());
    std::vector<std::uint32_t> expected;
    {
      std::vector<std::jthread> threads;
      for (std::size_t r = 0; r < ranks_.size(); ++r) {
        const std::uint32_t own = value + static_cast<std::uint32_t>(r);
        expected.insert(expected.end(), {own, own, kEpoch});
        threads.emplace_back([&, r, own] { all[r] = ranks_[r]->call(own); });
      }
    }
    for (std::size_t r = 0; r < ranks_.size(); ++r) {
      EXPECT_EQ(all[r], expected) << "rank " << r << ", value " << value;
      EXPECT_EQ(ranks_[r]->state.fault, 0U);
    }
  }

 private:
  std::vector<std::unique_ptr<Rank>> ranks_;
};

/// Of rank `rank` when it goes by its own tokens.
std::vector<std::uint32_t> alone(int rank, int num_ranks, std::uint32_t value) {
  std::vector<std::uint32_t> words;
  for (int r = 0; r < num_ranks; ++r) {
    words.insert(words.end(), {r == rank ? value : 0, r == rank ? value : kUnknownTokens, ~kEpoch});
  }
  return words;
}

TEST(ExchangeProtocol, RanksReadEachOther) {
  for (const int num_ranks : {1, 2, 5}) {
    World world(num_ranks);
    for (std::uint32_t call = 1; call < 50; ++call) world.expect_exchange(100 * call);
  }
}

TEST(ExchangeProtocol, StepsWrap) {
  World world(2);
  for (const std::uint32_t step : {65530U, 0xFFFFFFFAU}) {  // of the tag, of the counter
    for (const int rank : {0, 1}) world[rank].state.step = step;
    for (std::uint32_t call = 0; call < 12; ++call) world.expect_exchange(call);
    world.reset();
  }
}

TEST(ExchangeProtocol, ATimeoutLeavesNothingOfAnEarlierCall) {
  World world(3);
  world.expect_exchange(1);
  world.expect_exchange(10);
  EXPECT_EQ(world[1].call(5, milliseconds(5)), alone(1, 3, 5));
  EXPECT_EQ(world[1].fault_on_host, kFaultTimeout);
  EXPECT_EQ(world[1].state.timeouts, 1U);
}

/// Invariant 10: no rank goes back to the agreed policy by itself.
TEST(ExchangeProtocol, AfterATimeoutItStopsUntilItIsReset) {
  World world(2);
  world.expect_exchange(1);
  static_cast<void>(world[0].call(5, milliseconds(5)));
  const int touched = world[0].touched;
  for (std::uint32_t call = 0; call < 10; ++call) {
    EXPECT_EQ(world[0].call(call), alone(0, 2, call));  // within no time: 2 s would be up
  }
  EXPECT_EQ(world[0].touched, touched);
  EXPECT_EQ(world[0].state.timeouts, 1U);
  EXPECT_EQ(world[0].state.skipped, 10U);
  EXPECT_EQ(world[0].fault_on_host, kFaultTimeout);
  // The late rank finds the message of that call, then is alone and stops too.
  EXPECT_NE(world[1].call(7), alone(1, 2, 7));
  EXPECT_EQ(world[1].call(8, milliseconds(5)), alone(1, 2, 8));
  EXPECT_EQ(world[1].fault_on_host, kFaultTimeout);
  world.reset();
  for (std::uint32_t call = 0; call < 10; ++call) world.expect_exchange(call);
}

TEST(ExchangeProtocol, AnExtraCallOfOneRankEndsWithAReset) {
  for (int before = 0; before < 4; ++before) {  // either buffer may hold words of old
    World world(3);
    for (int call = 0; call < before; ++call) world.expect_exchange(50);
    static_cast<void>(world[2].call(9, milliseconds(5)));
    world.reset();
    for (std::uint32_t call = 0; call < 5; ++call) world.expect_exchange(call);
  }
}

TEST(ExchangeProtocol, ARestartedRankJoinsAgain) {
  for (int before = 0; before < 4; ++before) {
    World world(3);
    for (int call = 0; call < before; ++call) world.expect_exchange(50);
    world.restart(1);
    EXPECT_EQ(world[1].call(3), alone(1, 3, 3));  // it is not connected yet
    EXPECT_EQ(world[1].state.fault, kFaultNotConnected);
    world.connect();
    EXPECT_EQ(world[1].state.generation, 2U);
    for (std::uint32_t call = 0; call < 5; ++call) world.expect_exchange(call);
  }
}

TEST(ExchangeProtocol, ARankThatMissedAResetSaysSoAtOnce) {
  World world(2);
  world.expect_exchange(1);
  world[1].start_generation(2);
  static_cast<void>(world[1].call(4, milliseconds(5)));  // its words of generation 2 are there
  const auto begin = std::chrono::steady_clock::now();
  world[0].state.step = 0;  // the same buffer as that of the other's call
  EXPECT_EQ(world[0].call(6, std::chrono::hours(1)), alone(0, 2, 6));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::minutes(1));
  EXPECT_EQ(world[0].fault_on_host, kFaultOutOfStep);
}

TEST(ExchangeProtocol, WordsOfBeforeAResetAreNotTaken) {
  World world(2);
  static_cast<void>(world[0].call(11, milliseconds(5)));  // step 1 of generation 1
  world.reset();
  EXPECT_EQ(world[1].call(12, milliseconds(5)), alone(1, 2, 12));  // step 1 of generation 2
}

TEST(ExchangeProtocol, ArrivalsByTag) {
  const std::uint32_t wanted = message_tag(3, 9);
  EXPECT_EQ(arrival_of(wanted, wanted), Arrival::kHere);
  EXPECT_EQ(arrival_of(0, wanted), Arrival::kNotYet);
  EXPECT_EQ(arrival_of(message_tag(3, 7), wanted), Arrival::kNotYet);
  EXPECT_EQ(arrival_of(message_tag(3, 11), wanted), Arrival::kNever);
  EXPECT_EQ(arrival_of(message_tag(2, 60000), wanted), Arrival::kNotYet);
  EXPECT_EQ(arrival_of(message_tag(4, 1), wanted), Arrival::kNever);
  EXPECT_EQ(arrival_of(message_tag(3, 65535), message_tag(3, 65537)), Arrival::kNotYet);
  EXPECT_EQ(arrival_of(message_tag(kMaxGeneration, 1), wanted), Arrival::kNever);
  EXPECT_EQ(arrival_of(0, message_tag(kMaxGeneration, 1)), Arrival::kNotYet);
}

/// The rule that decides whether a kernel may start early: what it was compiled for, not where it
/// runs.
TEST(EarlyLaunch, NeedsCodeThatWaits) {
  EXPECT_FALSE(has_early_launch(80));  // on a Hopper too
  EXPECT_FALSE(has_early_launch(89));
  EXPECT_TRUE(has_early_launch(90));
  EXPECT_TRUE(has_early_launch(100));
}

}  // namespace
}  // namespace metro::cuda
