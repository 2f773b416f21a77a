// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>

#include "metro/ep/stages.hpp"

namespace metro::ep {

/// Attributes wall time to stages: each lap gets the time since the last one.
class StageClock {
 public:
  void start() noexcept {
    times_ = {};
    last_ = Clock::now();
  }
  void lap(Stage stage) noexcept {
    const auto now = Clock::now();
    times_[static_cast<std::size_t>(stage)] +=
        std::chrono::duration<double, std::micro>(now - last_).count();
    last_ = now;
  }
  [[nodiscard]] const StageTimes& times() const noexcept { return times_; }

 private:
  using Clock = std::chrono::steady_clock;
  StageTimes times_{};
  Clock::time_point last_;
};

}  // namespace metro::ep
