// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "core/rng.hpp"

namespace metro::test {

/// Runs code written for one warp on the CPU: 32 fibers take turns, each up to the next warp-wide
/// operation. Their order is drawn anew each time, from the seed: code that lacks a sync finds
/// memory as it might be on a GPU, not as one order of lanes would always leave it. (Any warp-wide
/// operation orders memory here; on a GPU only sync does.)
class WarpEmulator {
 public:
  /// What a lane sees: the operations of metro::cuda::DeviceWarp.
  class Lane {
   public:
    Lane(WarpEmulator& warp, int lane) : warp_(&warp), lane_(lane) {}

    [[nodiscard]] int lane() const { return lane_; }
    void sync() const { warp_->exchange(lane_, 0); }
    [[nodiscard]] std::uint32_t ballot(bool value) const {
      const auto& all = warp_->exchange(lane_, value ? 1 : 0);
      std::uint32_t bits = 0;
      for (std::size_t i = 0; i < all.size(); ++i) bits |= static_cast<std::uint32_t>(all[i]) << i;
      return bits;
    }
    [[nodiscard]] int shuffle(int value, int source) const {
      return warp_->exchange(lane_, value)[static_cast<std::size_t>(source)];
    }
    [[nodiscard]] int reduce_add(int value) const {
      const auto& all = warp_->exchange(lane_, value);
      int sum = 0;
      for (const int one : all) sum += one;
      return sum;
    }
    [[nodiscard]] int reduce_max(int value) const {
      return std::ranges::max(warp_->exchange(lane_, value));
    }
    [[nodiscard]] int reduce_min(int value) const {
      return std::ranges::min(warp_->exchange(lane_, value));
    }

   private:
    WarpEmulator* warp_;
    int lane_;
  };

  explicit WarpEmulator(std::uint64_t seed = 0) : random_(seed) {
    for (auto& stack : stacks_) stack.resize(std::size_t{64} * 1024);
  }

  /// Calls `code` once per lane; returns when all lanes have. Throws std::logic_error when some
  /// lanes end while others wait for them, and after kMostOperations.
  void run(const std::function<void(const Lane&)>& code) {
    code_ = &code;
    running_ = this;
    reached_.fill(0);
    done_.fill(false);
    for (std::size_t i = 0; i < kLanes; ++i) {
      getcontext(&lanes_[i]);
      lanes_[i].uc_stack.ss_sp = stacks_[i].data();
      lanes_[i].uc_stack.ss_size = stacks_[i].size();
      lanes_[i].uc_link = nullptr;
      makecontext(&lanes_[i], &WarpEmulator::enter, 0);
    }
    std::array<std::size_t, kLanes> order{};
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (std::uint64_t round = 0; run_round(round, order); ++round) {
      if (round > kMostOperations) throw std::logic_error("the warp does not end");
    }
    if (!std::ranges::all_of(done_, std::identity{})) {
      throw std::logic_error("lanes wait for lanes that have ended");
    }
  }

 private:
  static constexpr std::size_t kLanes = 32;
  static constexpr std::uint64_t kMostOperations = 1'000'000;

  /// Runs every lane that has made `round` operations up to its next one; whether there was any.
  bool run_round(std::uint64_t round, std::array<std::size_t, kLanes>& order) {
    random_.shuffle(order);
    bool any = false;
    for (const std::size_t lane : order) {
      if (done_[lane] || reached_[lane] != round) continue;
      any = true;
      current_ = lane;
      swapcontext(&caller_, &lanes_[lane]);
    }
    return any;
  }

  static void enter() {
    WarpEmulator& warp = *running_;
    (*warp.code_)(Lane(warp, static_cast<int>(warp.current_)));
    warp.done_[warp.current_] = true;
    setcontext(&warp.caller_);
  }

  /// Gives all lanes' values. Two buffers: a lane may be one operation ahead of the others.
  const std::array<int, kLanes>& exchange(int lane, int value) {
    const auto i = static_cast<std::size_t>(lane);
    std::array<int, kLanes>& values = values_[reached_[i] % 2];
    values[i] = value;
    ++reached_[i];
    swapcontext(&lanes_[i], &caller_);
    return values;
  }

  static thread_local inline WarpEmulator* running_ = nullptr;
  Rng random_;
  const std::function<void(const Lane&)>* code_ = nullptr;
  std::array<std::array<int, kLanes>, 2> values_{};
  std::array<std::uint64_t, kLanes> reached_{};  // operations
  std::array<bool, kLanes> done_{};
  std::array<std::vector<char>, kLanes> stacks_;
  std::array<ucontext_t, kLanes> lanes_{};
  ucontext_t caller_{};
  std::size_t current_ = 0;
};

}  // namespace metro::test
