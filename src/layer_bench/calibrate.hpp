// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metro/calibration.hpp"
#include "metro/model.hpp"
#include "metro/policy_names.hpp"

namespace metro::layer_bench {

/// Experts to be timed; models of the same shape need it once.
struct ExpertShape {
  std::string model;  ///< for messages
  int hidden = 0;
  int intermediate = 0;
  DataType weights = DataType::kBf16;
  friend bool operator==(const ExpertShape&, const ExpertShape&) = default;
};

/// What `metro calibrate` measures.
struct CalibrateOptions {
  std::vector<ExpertShape> shapes;
  bool quick = false;   ///< a few points of each shape
  double budget_s = 0;  ///< shapes that would begin or end later are left out; 0: no limit
  std::uint64_t seed = 0;
  int threads = 0;       ///< of the CPU; 0: all
  double weight_gb = 1;  ///< CPU memory for weights
  double timeout_s = 30;
  std::function<void(const std::string&)> progress;  ///< one line now and then
};

/// The points of a calibration, to be fitted (cost/calibration_fit.hpp), and what is not in it.
struct CalibrationRun {
  Calibration calibration;
  std::vector<std::string> left_out;  ///< one line each, with the reason
};

/// The batches that a shape is timed with, in the order of the file.
///
/// Uniform ones, 1 to 64 activated experts with 1 to 256 tokens each; and such with one hot expert
/// of up to 1,024 tokens, since two batches of equal tokens may differ by 1.4x.
std::vector<Calibration::ExpertPoint> calibration_points(bool quick);

/// Times the experts of one shape on one device, their weights never in its caches.
class ExpertTimer {
 public:
  ExpertTimer() = default;
  virtual ~ExpertTimer() = default;
  ExpertTimer(const ExpertTimer&) = delete;
  ExpertTimer& operator=(const ExpertTimer&) = delete;

  /// Experts that memory has room for.
  [[nodiscard]] virtual int max_activated() const = 0;
  /// Median time of the expert stage with so many activated experts and their tokens.
  virtual double time_us(std::span<const std::int32_t> tokens_per_expert) = 0;
};

/// Wall time since the run began, against its budget.
class RunClock {
 public:
  explicit RunClock(double budget_s) : budget_s_(budget_s) {}
  [[nodiscard]] double used_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  [[nodiscard]] bool has_room_for(double seconds) const {
    return budget_s_ <= 0 || used_s() + seconds <= budget_s_;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  double budget_s_;
};

/// `make(shape, most)` gives the timer of a shape, for up to `most` activated experts.
using MakeExpertTimer = std::function<std::unique_ptr<ExpertTimer>(const ExpertShape&, int most)>;

/// Adds the experts' points of every shape to `run`. A shape's points come in random order, so that
/// a drift of the clock speed hits all alike. A shape that fails, or for which there is no time, is
/// named in `left_out`.
void time_experts(const CalibrateOptions& options, const RunClock& clock,
                  const MakeExpertTimer& make, CalibrationRun& run);

/// Microseconds to the nanosecond, as the file has them.
double rounded_us(double us);

/// What every device's run of `metro calibrate` routes to time a policy: a layer of 256 experts on
/// 16 GPUs at 1.5x, batches of 256 tokens.
struct RouterBatches {
  int num_experts = 256;
  int num_gpus = 16;
  int num_replicas = 384;
  int tokens = 256;
  int topk = 8;
  int batches = 16;
  std::string_view algorithm = kHomedAlgorithm;
};

/// Calibrates this machine's CPU as if it were a GPU. Throws Error{kDevice}, {kUsage}.
CalibrationRun calibrate_cpu(const CalibrateOptions& options);

}  // namespace metro::layer_bench
