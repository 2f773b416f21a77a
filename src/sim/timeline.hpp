// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "metro/cost.hpp"
#include "metro/simulate.hpp"
#include "sim/moe_layers.hpp"

namespace metro::sim {

/// Notes what each GPU does in the first steps of an engine.
class TimelineRecorder {
 public:
  /// GPUs [first_gpu, first_gpu + num_gpus) work in this engine; `num_layers` of its layers have
  /// experts.
  TimelineRecorder(std::vector<TimelineSlice>& slices, std::int64_t steps, int first_gpu,
                   int num_gpus, int num_layers);

  /// What to tell of the step's layers; null once enough steps are noted.
  const MoeLayers::Observer* begin_step(double start_us, const StepTimes& times);
  void end_step();

 private:
  void add_layer(int layer, const LayerExperts& experts);
  void add_to_all(const char* name, double duration_us, int layer);

  std::vector<TimelineSlice>& slices_;
  std::int64_t steps_left_;
  int first_gpu_;
  int num_gpus_;
  int num_layers_;
  MoeLayers::Observer observer_;
  std::int64_t step_ = -1;
  double now_us_ = 0;
  double before_us_ = 0;  // of a layer: all that runs before its experts
  double after_us_ = 0;
  double tail_us_ = 0;  // of the step
};

}  // namespace metro::sim
