// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace metro {

/// An option of a simulation (docs/simulator.md lists them) with the values it takes in the grid.
struct SweepAxis {
  std::string option;  ///< without dashes in front: "prefill-policy"
  std::vector<std::string> values;
};

/// A grid of simulations: every combination of the axes' values.
struct SweepSpec {
  std::vector<SweepAxis> axes;  ///< the last varies fastest
  std::uint64_t seed = 0;
  std::filesystem::path journal;  ///< finished points are kept in it and taken from it; empty: none
  std::vector<std::filesystem::path> calibration_folders;  ///< where a calibration "auto" may be
  std::string (*spelling)(std::string_view option) = nullptr;  ///< in messages; null: as a field
};

/// One point of the grid. Figures are 0 where it has an error.
struct SweepRow {
  std::vector<std::string> values;  ///< of the axes
  std::string error;                ///< why it cannot be built
  double ttft_ms = 0;               ///< means
  double tpot_ms = 0;
  double output_tokens_per_s_per_gpu = 0;
  double max_activated = 0;
  bool pareto = false;  ///< no other row is as good in mean TPOT and throughput, and better in one
  std::string json;  ///< all of it, as `metro simulate` writes a result, with "pareto" or "error"
};

struct Sweep {
  std::vector<SweepRow> rows;                 ///< in the order of the grid
  std::vector<std::filesystem::path> inputs;  ///< files that the options named
};

/// Who works out the points of a sweep: threads of this process, or others.
class SweepWorkers {
 public:
  SweepWorkers() = default;
  SweepWorkers(const SweepWorkers&) = delete;
  SweepWorkers& operator=(const SweepWorkers&) = delete;
  virtual ~SweepWorkers() = default;

  /// Whether this process gathers and writes; others only work.
  [[nodiscard]] virtual bool is_writer() const noexcept = 0;

  /// `work(point)` for every point of `todo`, in any order and place; `done(point, text)` with what
  /// it returned, one at a time, in the writer. `todo` is the writer's to say; `work` may be called
  /// with any of its points in every process, and does not throw.
  virtual void run(const std::vector<std::size_t>& todo,
                   const std::function<std::string(std::size_t)>& work,
                   const std::function<void(std::size_t, const std::string&)>& done) = 0;
};

/// Threads of this process; 0: one per core.
std::unique_ptr<SweepWorkers> make_thread_workers(int num_threads);

/// Simulates the grid.
///
///     auto workers = metro::make_thread_workers(0);
///     metro::Sweep sweep = metro::sweep({.axes = {{"model", {"gpt-oss-20b"}}, ...}}, *workers);
///
/// A point that cannot be built is a row with an error; any other fault is thrown before anything
/// runs: Error{kUsage} for options, Error{kInput} for files and for a journal that is none. With a
/// journal a second call goes on where a killed one stopped. Rows do not depend on the workers; a
/// process that is not the writer gets none. `progress(done, total)` counts points.
Sweep sweep(const SweepSpec& spec, SweepWorkers& workers,
            const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
