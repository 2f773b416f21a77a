// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace metro::ep {

/// Where a layer's time goes, in the order of all-to-all dispatch (all-gather dispatches first).
enum class Stage : std::uint8_t {
  kGate,      ///< gate and top-k
  kExchange,  ///< what ranks tell each other for routing
  kRoute,
  kDispatch,  ///< tokens to the GPUs of their experts
  kPermute,   ///< tokens by slot
  kExperts,
  kShared,  ///< the shared expert
  kCombine
};

inline constexpr std::array<std::string_view, 8> kStageNames = {
    "gate_topk", "exchange", "route", "dispatch", "permute", "experts", "shared", "combine"};
inline constexpr std::size_t kNumStages = kStageNames.size();

/// Microseconds by Stage.
using StageTimes = std::array<double, kNumStages>;

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
