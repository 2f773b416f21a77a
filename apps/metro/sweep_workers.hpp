// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace metro::cli {

/// Who works out the points of a sweep: threads of this process, or the ranks of `mpirun`.
class SweepWorkers {
 public:
  /// Joins the other ranks where mpirun started this process and MPI was built in.
  SweepWorkers();
  SweepWorkers(const SweepWorkers&) = delete;
  SweepWorkers& operator=(const SweepWorkers&) = delete;
  ~SweepWorkers();

  /// Whether this process gathers, writes and prints; the others only work.
  [[nodiscard]] bool is_writer() const noexcept { return rank_ == 0; }

  /// `work(point)` for every point of `todo`, in any order and place; `done(point, text)` with what
  /// it returned, one at a time, in the writer. `todo` is the writer's to say; `work` is called
  /// with any of its points in all ranks, and must not throw there.
  void run(const std::vector<std::size_t>& todo, int num_threads,
           const std::function<std::string(std::size_t)>& work,
           const std::function<void(std::size_t, const std::string&)>& done);

 private:
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace metro::cli
