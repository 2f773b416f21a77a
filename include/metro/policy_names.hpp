// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

/// The policies and placements that the library itself asks for by name: defaults, and the rivals
/// that every result stands beside. All others are known by their row in policies() or
/// placement_algorithms() alone.
namespace metro {

inline constexpr std::string_view kDefaultPolicy = "optimal";        ///< of route, compare, engines
inline constexpr std::string_view kDefaultDecodePolicy = "optimal";  ///< of steps that only decode
inline constexpr std::string_view kDefaultPrefillPolicy = "shares";  ///< of steps with prompts

inline constexpr std::string_view kOptimalPolicy = "optimal";    ///< the bound of all others
inline constexpr std::string_view kEvenPolicy = "even";          ///< the paper's EPLB baseline
inline constexpr std::string_view kHashPolicy = "hash";          ///< what vLLM does
inline constexpr std::string_view kHomePolicy = "home";          ///< EPLB off, no router
inline constexpr std::string_view kPaperPolicy = "metro-paper";  ///< the paper's greedy

inline constexpr std::string_view kEplbAlgorithm = "eplb";    ///< what engines do today; a default
inline constexpr std::string_view kHomedAlgorithm = "homed";  ///< of serving; a default

}  // namespace metro
