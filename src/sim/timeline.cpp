// SPDX-License-Identifier: Apache-2.0
#include "sim/timeline.hpp"

#include <algorithm>

namespace metro::sim {

TimelineRecorder::TimelineRecorder(std::vector<TimelineSlice>& slices, std::int64_t steps,
                                   int first_gpu, int num_gpus, int num_layers)
    : slices_(slices),
      steps_left_(steps),
      first_gpu_(first_gpu),
      num_gpus_(num_gpus),
      num_layers_(num_layers),
      observer_([this](int layer, TopkView, const LayerExperts& experts) {
        add_layer(layer, experts);
      }) {}

const MoeLayers::Observer* TimelineRecorder::begin_step(double start_us, const StepTimes& times) {
  if (steps_left_ == 0) return nullptr;
  --steps_left_;
  ++step_;
  now_us_ = start_us;
  // The cost model sums stages over layers; a layer gets its equal part.
  tail_us_ = times[Stage::kHead] + times[Stage::kOverhead];
  after_us_ = times[Stage::kCombine] / num_layers_;
  before_us_ = (times.total_us() - tail_us_) / num_layers_ - after_us_;
  return &observer_;
}

void TimelineRecorder::add_to_all(const char* name, double duration_us, int layer) {
  for (int gpu = 0; gpu < num_gpus_; ++gpu) {
    slices_.push_back({name, first_gpu_ + gpu, now_us_, duration_us, step_, layer, 0, 0, false});
  }
  now_us_ += duration_us;
}

void TimelineRecorder::add_layer(int layer, const LayerExperts& experts) {
  add_to_all("attention to dispatch", before_us_, layer);
  const std::span<const GpuWork> work = experts.gpus();
  const auto slowest = std::ranges::max_element(work, {}, &GpuWork::us);
  const auto shards = static_cast<std::size_t>(num_gpus_) / work.size();  // GPUs of an expert
  for (std::size_t gpu = 0; gpu < static_cast<std::size_t>(num_gpus_); ++gpu) {
    const GpuWork& part = work[gpu / shards];
    slices_.push_back(
        {"experts", first_gpu_ + static_cast<int>(gpu), now_us_, part.us, step_, layer,
         part.activated, part.tokens,
         work.size() > 1 && gpu / shards == static_cast<std::size_t>(slowest - work.begin())});
  }
  now_us_ += slowest->us;
  add_to_all("combine", after_us_, layer);
}

void TimelineRecorder::end_step() { add_to_all("head and overhead", tail_us_, -1); }

}  // namespace metro::sim
