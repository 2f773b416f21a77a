// SPDX-License-Identifier: Apache-2.0
#include "metro/dispatch.hpp"

namespace metro {

std::string_view to_string(Dispatch dispatch) noexcept {
  return dispatch == Dispatch::kAllGather ? "all-gather" : "all-to-all";
}

Dispatch dispatch_of(std::string_view name) noexcept {
  return name == to_string(Dispatch::kAllToAll) ? Dispatch::kAllToAll : Dispatch::kAllGather;
}

}  // namespace metro
