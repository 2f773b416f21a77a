// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metro/simulate.hpp"

namespace metro::reproduction {

/// A model on the hardware that the paper ran it on.
struct Pair {
  std::string_view model;
  std::string_view gpu;
  int gpus;
  double memory_bytes;
  int batch;  ///< decode batch over all GPUs
};

/// In the paper's order: its real system first, then its two simulated ones.
std::span<const Pair> pairs() noexcept;

/// "DeepSeek-V3 on 16 x B200".
std::string pair_name(const Pair& pair);

/// Generated requests: lengths uniform from half to one and a half times these.
struct Workload {
  std::string_view name;
  int prompt;
  int output;
  int rounds;  ///< requests, in multiples of those in flight
};

/// The paper's 1K in, 2K out.
inline constexpr Workload kDecodeHeavy{"decode-heavy", 1024, 2048, 4};
/// Eight prompt tokens to one of the answer.
inline constexpr Workload kPrefillHeavy{"prefill-heavy", 2048, 256, 8};

std::vector<Request> make_requests(const Workload& workload, int in_flight, std::uint64_t seed);

/// Who serves: a placement, its policies, and whether there are replicas.
struct System {
  std::string_view key;   ///< in results: "eplb", "metro", ...
  std::string_view name;  ///< for people
  std::string_view algorithm;
  std::string_view policy;
  std::string_view prefill_policy;
  bool replicates;
  bool tensor_sharded;
};

/// EPLB's placement and its even split, for every token: what the paper compares with.
inline constexpr System kEplb{
    "eplb", "EPLB, even split", kEplbAlgorithm, kEvenPolicy, kEvenPolicy, true, false};
/// The paper's system: its greedy for decode, the even split for prompts.
inline constexpr System kMetro{"metro",     "METRO", kEplbAlgorithm, kPaperPolicy,
                               kEvenPolicy, true,    false};
/// The same with the exact optimum.
inline constexpr System kOptimal{"optimal",   "optimal", kEplbAlgorithm, kOptimalPolicy,
                                 kEvenPolicy, true,      false};
/// EPLB off: one copy of every expert.
inline constexpr System kNone{"none",      "EPLB off", kEplbAlgorithm, kHomePolicy,
                              kHomePolicy, false,      false};
/// Replicas that decode never uses.
inline constexpr System kHome{"home", "home", kHomedAlgorithm, kHomePolicy, kDefaultPrefillPolicy,
                              true,   false};
/// Ours.
inline constexpr System kHomed{"homed_optimal",
                               "homed + optimal",
                               kHomedAlgorithm,
                               kOptimalPolicy,
                               kDefaultPrefillPolicy,
                               true,
                               false};
/// Every expert sharded over all GPUs.
inline constexpr System kMoeTp{"moe_tp", "moe-TP", kHomedAlgorithm, kHomePolicy, kHomePolicy,
                               false,    true};

/// All of the above, in that order.
std::span<const System> systems() noexcept;

}  // namespace metro::reproduction
