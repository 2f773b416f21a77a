// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace metro {

/// One request to a serving system: when it comes, and how many tokens it has.
struct Request {
  double arrival_s = 0;  ///< since the first request of its list
  std::int32_t prompt_tokens = 0;
  std::int32_t output_tokens = 0;

  friend bool operator==(const Request&, const Request&) = default;
};

/// Longest prompt or answer that readers accept, far above any context.
inline constexpr std::int32_t kMaxRequestTokens = 1 << 30;

/// `count` requests of one shape, all there at time 0.
std::vector<Request> equal_requests(std::int64_t count, std::int32_t prompt_tokens,
                                    std::int32_t output_tokens);

/// Spreads the arrivals as a Poisson process of `rate_per_s` requests a second, the first at 0.
void set_poisson_arrivals(std::vector<Request>& requests, double rate_per_s, std::uint64_t seed);

}  // namespace metro
