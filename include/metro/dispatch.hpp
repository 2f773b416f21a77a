// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace metro {

/// How tokens reach the GPUs of their experts where attention is data-parallel.
enum class Dispatch : std::uint8_t {
  kAllGather,  ///< every GPU gets every token, gates and routes alike; results are reduce-scattered
  kAllToAll  ///< the gate runs where the token is; it goes to its experts' GPUs, results come back
};

/// "all-gather" or "all-to-all", in results and on the command line.
constexpr std::string_view to_string(Dispatch dispatch) noexcept {
  return dispatch == Dispatch::kAllGather ? "all-gather" : "all-to-all";
}

/// The dispatch of that name; any other name is all-gather.
constexpr Dispatch dispatch_of(std::string_view name) noexcept {
  return name == to_string(Dispatch::kAllToAll) ? Dispatch::kAllToAll : Dispatch::kAllGather;
}

}  // namespace metro
