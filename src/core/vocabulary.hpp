// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace metro {

/// Words that results and the command line use for how a layer is served (docs/formats.md,
/// Vocabulary), written by several layers and read by more. Readers take the old spellings too.
inline constexpr std::string_view kWholeExperts = "ep";
inline constexpr std::string_view kMoeTp = "moe-TP";
inline constexpr std::string_view kEplbOff = "EPLB off";

/// Takes each old spelling: "tensor-sharded" of experts, "moe-tp" of a bench row's policy.
constexpr bool is_moe_tp(std::string_view word) noexcept {
  return word == kMoeTp || word == "tensor-sharded" || word == "moe-tp";  // old spelling
}

/// Takes the old spelling, "none".
constexpr bool is_eplb_off(std::string_view word) noexcept {
  return word == kEplbOff || word == "none";
}

/// The policy of a bench row, as it is written now.
constexpr std::string_view row_policy(std::string_view word) noexcept {
  if (is_moe_tp(word)) return kMoeTp;
  return is_eplb_off(word) ? kEplbOff : word;
}

}  // namespace metro
