// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace metro::test {

/// Runs code written for one warp on the CPU: 32 fibers take turns, each up to the next warp-wide
/// operation. Deterministic, so the kernels' solvers can be checked where no GPU is.
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

  WarpEmulator() {
    for (auto& stack : stacks_) stack.resize(std::size_t{64} * 1024);
  }

  /// Calls `code` once per lane; returns when all lanes have.
  void run(const std::function<void(const Lane&)>& code) {
    code_ = &code;
    running_ = this;
    current_ = 0;
    done_ = 0;
    parity_.fill(0);
    for (std::size_t i = 0; i < kLanes; ++i) {
      getcontext(&lanes_[i]);
      lanes_[i].uc_stack.ss_sp = stacks_[i].data();
      lanes_[i].uc_stack.ss_size = stacks_[i].size();
      lanes_[i].uc_link = nullptr;
      makecontext(&lanes_[i], &WarpEmulator::enter, 0);
    }
    swapcontext(&caller_, &lanes_[0]);
  }

 private:
  static constexpr std::size_t kLanes = 32;

  static void enter() {
    WarpEmulator& warp = *running_;
    (*warp.code_)(Lane(warp, static_cast<int>(warp.current_)));
    ++warp.done_;
    if (warp.done_ == kLanes) setcontext(&warp.caller_);
    warp.pass_turn();
  }

  void pass_turn() {
    const std::size_t from = current_;
    current_ = (current_ + 1) % kLanes;
    swapcontext(&lanes_[from], &lanes_[current_]);
  }

  /// Gives all lanes' values. Two buffers: a lane may be one operation ahead of the others.
  const std::array<int, kLanes>& exchange(int lane, int value) {
    const auto i = static_cast<std::size_t>(lane);
    std::array<int, kLanes>& values = values_[parity_[i]];
    parity_[i] ^= 1U;
    values[i] = value;
    pass_turn();
    return values;
  }

  static thread_local inline WarpEmulator* running_ = nullptr;
  const std::function<void(const Lane&)>* code_ = nullptr;
  std::array<std::array<int, kLanes>, 2> values_{};
  std::array<std::size_t, kLanes> parity_{};
  std::array<std::vector<char>, kLanes> stacks_;
  std::array<ucontext_t, kLanes> lanes_{};
  ucontext_t caller_{};
  std::size_t current_ = 0;
  std::size_t done_ = 0;
};

}  // namespace metro::test
