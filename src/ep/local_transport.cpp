// SPDX-License-Identifier: Apache-2.0
#include "metro/ep/local_transport.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "ep/rank_names.hpp"
#include "metro/error.hpp"

namespace metro::ep {
namespace {

/// What a rank lays open for the others to copy from.
struct Posted {
  const std::byte* data = nullptr;
  std::vector<std::size_t> begin;  // [ranks] of the block for each
};

/// Shared by the threads, and kept by those that outlive the call.
class Meeting {
 public:
  Meeting(int num_ranks, double timeout_s)
      : timeout_(timeout_s),
        blocks_(static_cast<std::size_t>(num_ranks)),
        arrivals_(blocks_.size()),
        left_(blocks_.size()) {}

  /// Returns when all ranks have come here. Throws when one failed, or kept the others waiting.
  void meet(int rank) {
    std::unique_lock lock(mutex_);
    check();
    const std::uint64_t round = ++arrivals_[static_cast<std::size_t>(rank)];
    changed_.notify_all();
    const auto all_here = [&] {
      return std::ranges::all_of(arrivals_, [&](std::uint64_t n) { return n >= round; });
    };
    if (!changed_.wait_for(lock, timeout_, [&] { return failure_ || all_here(); })) {
      fail_locked(silent([&](std::size_t r) { return arrivals_[r] < round; }));
    }
    if (!all_here()) check();
  }

  void fail(std::exception_ptr failure) {
    const std::scoped_lock lock(mutex_);
    fail_locked(std::move(failure));
  }

  void leave(int rank) {
    const std::scoped_lock lock(mutex_);
    left_[static_cast<std::size_t>(rank)] = true;
    changed_.notify_all();
  }

  /// Waits for all ranks to leave, after a failure only for a moment. Returns whether all did.
  bool wait_for_all() {
    std::unique_lock lock(mutex_);
    const auto num_left = [&] { return std::ranges::count(left_, true); };
    const auto all_left = [&] { return num_left() == std::ssize(left_); };
    changed_.wait(lock, [&] { return failure_ || num_left() > 0; });
    while (!failure_ && !all_left()) {
      const auto before = num_left();
      if (!changed_.wait_for(lock, timeout_, [&] { return failure_ || num_left() > before; })) {
        fail_locked(silent([&](std::size_t r) { return !left_[r]; }));
      }
    }
    return changed_.wait_for(lock, std::min(timeout_, kGrace), all_left);
  }

  [[nodiscard]] std::exception_ptr failure() {
    const std::scoped_lock lock(mutex_);
    return failure_;
  }

  /// Written by its rank before a meeting, read by the others until the next.
  std::vector<Posted>& blocks() noexcept { return blocks_; }

 private:
  using Seconds = std::chrono::duration<double>;
  static constexpr Seconds kGrace{1};  // for ranks that are on their way out

  void fail_locked(std::exception_ptr failure) {
    if (!failure_) failure_ = std::move(failure);
    changed_.notify_all();
  }

  void check() const {
    if (failure_) std::rethrow_exception(failure_);
  }

  template <typename Predicate>
  [[nodiscard]] std::exception_ptr silent(Predicate is_missing) const {
    std::vector<int> ranks;
    for (std::size_t r = 0; r < arrivals_.size(); ++r) {
      if (is_missing(r)) ranks.push_back(static_cast<int>(r));
    }
    return std::make_exception_ptr(Error(
        ErrorCode::kDevice, fmt::format("{} of {} did not answer within {:g} s", rank_names(ranks),
                                        arrivals_.size(), timeout_.count())));
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Seconds timeout_;
  std::vector<Posted> blocks_;
  std::vector<std::uint64_t> arrivals_;  // [ranks] meetings each has come to
  std::vector<bool> left_;               // [ranks]
  std::exception_ptr failure_;
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<Meeting> meeting, int rank)
      : meeting_(std::move(meeting)), rank_(rank) {}

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override {
    return static_cast<int>(meeting_->blocks().size());
  }
  [[nodiscard]] std::string_view name() const noexcept override { return "local"; }

  void all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_bytes,
                  std::span<std::byte> receive,
                  std::span<const std::size_t> receive_bytes) override {
    Posted& own = post(send);
    std::exclusive_scan(send_bytes.begin(), send_bytes.end(), own.begin.begin(), std::size_t{0});
    copy(receive, receive_bytes);
  }

  void all_gather(std::span<const std::byte> send, std::span<std::byte> receive,
                  std::span<const std::size_t> bytes) override {
    std::ranges::fill(post(send).begin, std::size_t{0});
    copy(receive, bytes);
  }

  void barrier() override { meeting_->meet(rank_); }

 private:
  Posted& post(std::span<const std::byte> send) {
    Posted& own = meeting_->blocks()[static_cast<std::size_t>(rank_)];
    own.data = send.data();
    own.begin.resize(meeting_->blocks().size());
    return own;
  }

  void copy(std::span<std::byte> receive, std::span<const std::size_t> bytes) {
    meeting_->meet(rank_);
    std::byte* out = receive.data();
    for (std::size_t r = 0; r < bytes.size(); ++r) {
      const Posted& from = meeting_->blocks()[r];
      if (bytes[r] == 0) continue;
      std::memcpy(out, from.data + from.begin[static_cast<std::size_t>(rank_)], bytes[r]);
      out += bytes[r];
    }
    meeting_->meet(rank_);  // nobody reads any longer
  }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
};

void run_rank(const std::shared_ptr<Meeting>& meeting, int rank,
              const std::function<void(Transport&)>& work) {
  try {
    LocalTransport transport(meeting, rank);
    work(transport);
  } catch (const Error& error) {
    // The first failure is kept: errors that others get from it are echoes of it.
    const bool is_own = error.code() == ErrorCode::kDevice;  // other faults all ranks share
    meeting->fail(std::make_exception_ptr(
        is_own ? Error(error.code(), fmt::format("rank {}: {}", rank, error.what())) : error));
  } catch (...) {
    meeting->fail(std::current_exception());
  }
  meeting->leave(rank);
}

}  // namespace

void run_local_ranks(int num_ranks, double timeout_s, const std::function<void(Transport&)>& work) {
  const auto meeting = std::make_shared<Meeting>(num_ranks, timeout_s);
  const auto shared_work = std::make_shared<const std::function<void(Transport&)>>(work);
  std::vector<std::thread> threads;
  try {
    for (int rank = 0; rank < num_ranks; ++rank) {
      threads.emplace_back([meeting, shared_work, rank] { run_rank(meeting, rank, *shared_work); });
    }
  } catch (const std::system_error&) {  // ranks wait for each other, so fewer will not do
    meeting->fail(std::make_exception_ptr(Error(
        ErrorCode::kInfeasible, fmt::format("{} ranks need a thread each, the system gives {}",
                                            num_ranks, threads.size()))));
    for (int rank = static_cast<int>(threads.size()); rank < num_ranks; ++rank) {
      meeting->leave(rank);
    }
  }
  const bool all_left = meeting->wait_for_all();
  for (std::thread& thread : threads) {
    if (all_left) {
      thread.join();
    } else {
      thread.detach();
    }
  }
  if (const auto failure = meeting->failure()) std::rethrow_exception(failure);
}

}  // namespace metro::ep
