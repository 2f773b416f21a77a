// SPDX-License-Identifier: Apache-2.0
#include "ep/node_rank.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace metro::ep {

int node_rank(Transport& ranks) {
  using Name = std::array<char, 256>;
  Name own{};
  static_cast<void>(::gethostname(own.data(), own.size() - 1));
  std::vector<Name> names(static_cast<std::size_t>(ranks.size()));
  ranks.all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(names)),
                   std::vector<std::size_t>(names.size(), sizeof(Name)));
  return static_cast<int>(std::count(names.begin(), names.begin() + ranks.rank(), own));
}

}  // namespace metro::ep
