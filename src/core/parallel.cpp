// SPDX-License-Identifier: Apache-2.0
#include "core/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace metro {

void for_each_parallel(std::size_t count, int num_threads,
                       const std::function<void(std::size_t)>& work) {
  const std::size_t wanted = num_threads > 0 ? static_cast<std::size_t>(num_threads)
                                             : std::max(1U, std::thread::hardware_concurrency());
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto loop = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::jthread> threads;
  try {
    for (std::size_t i = 1; i < std::min(wanted, count); ++i) threads.emplace_back(loop);
  } catch (const std::system_error&) {
    // The system gives no more threads: those there are do the work.
  }
  loop();
  threads.clear();  // joins
  if (failure) std::rethrow_exception(failure);
}

}  // namespace metro
