// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/copy_bandwidth.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <vector>

#include "core/parallel.hpp"

namespace metro::layer_bench {

double measure_copy_gb_s(int num_threads) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  constexpr int kCopies = 5;
  const auto threads = static_cast<std::size_t>(std::max(num_threads, 1));
  const std::vector<char> from(kBytes, 1);
  std::vector<char> to(kBytes, 0);
  double best_s = 0;
  for (int i = 0; i < kCopies; ++i) {
    const auto start = Clock::now();
    for_each_parallel(threads, num_threads, [&](std::size_t t) {
      const std::size_t begin = kBytes / threads * t;
      std::memcpy(to.data() + begin, from.data() + begin, kBytes / threads);
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best_s = i == 0 ? seconds : std::min(best_s, seconds);
  }
  return 2e-9 * static_cast<double>(kBytes) / best_s;
}

}  // namespace metro::layer_bench
