// SPDX-License-Identifier: Apache-2.0
#include "core/kernel_constants.hpp"

#include <array>

namespace metro {

std::string_view architecture_name(Architecture architecture) noexcept {
  constexpr std::array<std::string_view, 3> names = {"ampere", "hopper", "blackwell"};
  return names[static_cast<std::size_t>(architecture)];
}

std::string_view collective_name(Collective collective) noexcept {
  constexpr std::array<std::string_view, 6> names = {"all-gather", "all-to-all", "reduce-scatter",
                                                     "all-reduce", "dispatch",   "combine"};
  return names[static_cast<std::size_t>(collective)];
}

}  // namespace metro
