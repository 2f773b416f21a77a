// SPDX-License-Identifier: Apache-2.0
#include <mutex>

#include "core/parallel.hpp"
#include "metro/sweep.hpp"

namespace metro {
namespace {

class ThreadWorkers final : public SweepWorkers {
 public:
  explicit ThreadWorkers(int num_threads) : num_threads_(num_threads) {}

  [[nodiscard]] bool is_writer() const noexcept override { return true; }

  void run(const std::vector<std::size_t>& todo,
           const std::function<std::string(std::size_t)>& work,
           const std::function<void(std::size_t, const std::string&)>& done) override {
    std::mutex mutex;
    for_each_parallel(todo.size(), num_threads_, [&](std::size_t i) {
      const std::string text = work(todo[i]);
      const std::scoped_lock lock(mutex);
      done(todo[i], text);
    });
  }

 private:
  int num_threads_;
};

}  // namespace

std::unique_ptr<SweepWorkers> make_thread_workers(int num_threads) {
  return std::make_unique<ThreadWorkers>(num_threads);
}

}  // namespace metro
