// SPDX-License-Identifier: Apache-2.0
#include "metro/requests.hpp"

#include <cmath>
#include <cstddef>

#include "core/rng.hpp"

namespace metro {

std::vector<Request> equal_requests(std::int64_t count, std::int32_t prompt_tokens,
                                    std::int32_t output_tokens) {
  return std::vector<Request>(static_cast<std::size_t>(count), {0.0, prompt_tokens, output_tokens});
}

void set_poisson_arrivals(std::vector<Request>& requests, double rate_per_s, std::uint64_t seed) {
  constexpr std::uint64_t kStream = 0x706f6973736f6e;  // not the numbers that others draw
  Rng rng(mix64(seed) ^ kStream);
  double now = 0;
  for (Request& request : requests) {
    request.arrival_s = now;
    now -= std::log1p(-rng.uniform()) / rate_per_s;
  }
}

}  // namespace metro
