// SPDX-License-Identifier: Apache-2.0
// A cost that is read never falls, is never NaN, and stays above its own lower bound.
#include <cmath>
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/parse.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const metro::ExpertCost cost = metro::io::parse_expert_cost(
        metro::io::as_text(std::as_bytes(std::span(data, size))), {}, "f");
    double before = 0;
    for (std::int64_t n = 0; n < (std::int64_t{1} << 40); n = n < 300 ? n + 1 : n * 2) {
      const double us = cost.phi(n);
      if (!std::isfinite(us) || us < before || (n == 0 && us != 0)) std::abort();
      if (!(cost.least(n) <= us * (1 + 1e-12))) std::abort();
      before = us;
    }
  } catch (const metro::Error&) {
    return 0;
  }
  return 0;
}
