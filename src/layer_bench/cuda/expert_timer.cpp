// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/expert_timer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "cuda/check.hpp"
#include "layer_bench/cuda/bench_timing.hpp"
#include "layer_bench/random_weights.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr std::size_t kReservedBytes = std::size_t{4} << 30;  // for all but weights
constexpr double kCacheTurns = 4;  // weights of so many caches' sizes take turns

ep::LayerShape layer_of(const ExpertShape& shape) {
  ep::LayerShape layer;
  layer.hidden = shape.hidden;
  layer.intermediate = shape.intermediate;
  layer.topk = 1;
  layer.weights = shape.weights;
  return layer;
}

std::size_t free_bytes() {
  std::size_t free = 0;
  std::size_t all = 0;
  METRO_CUDA_CHECK(cudaMemGetInfo(&free, &all));
  return free;
}

/// The expert of each assignment: experts take turns, as the tokens of a batch would have it.
std::vector<std::int32_t> spread(std::span<const std::int32_t> tokens_per_expert) {
  std::vector<std::int32_t> ids;
  const int most = std::ranges::max(tokens_per_expert);
  for (int turn = 0; turn < most; ++turn) {
    for (std::size_t e = 0; e < tokens_per_expert.size(); ++e) {
      if (turn < tokens_per_expert[e]) ids.push_back(static_cast<std::int32_t>(e));
    }
  }
  return ids;
}

}  // namespace

GpuExpertTimer::GpuExpertTimer(const ExpertShape& shape, int most, const CalibrateOptions& options,
                               const ep::cuda::Stream& stream)
    : stream_(stream),
      shape_(layer_of(shape)),
      width_(ep::cuda::whole_expert(shape_).width),
      repeats_(options.quick ? 5 : 11),
      expert_bytes_(expert_bytes_on_gpu(shape_, ep::cuda::whole_expert(shape_))) {
  const std::size_t free = free_bytes();
  const std::size_t room = free > kReservedBytes ? (free - kReservedBytes) / expert_bytes_ : 0;
  pool_ = static_cast<int>(std::min(room, static_cast<std::size_t>(2 * most)));
  max_activated_ = std::min(pool_, most);
  if (pool_ == 0) return;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(pool_));
  std::iota(ids.begin(), ids.end(), 0);
  const RandomGpuExperts& experts =
      experts_.emplace_back(shape_, ep::cuda::whole_expert(shape_), ids, options.seed);
  std::vector<ep::cuda::ExpertPointers> pointers;
  for (std::size_t i = 0; i < ids.size(); ++i) pointers.push_back(experts[i]);
  table_.emplace(ep::cuda::WeightShape{shape_.hidden, width_, shape_.weights}, pool_, 0);
  table_->update({}, pointers, stream);
  stream.wait();
}

const __nv_bfloat16* GpuExpertTimer::tokens(int rows) {
  if (rows > rows_) {
    x_ = {};  // before the next take its memory
    rows_ = static_cast<int>(std::bit_ceil(static_cast<unsigned>(rows)));
    x_ = random_matrix(rows_, shape_.hidden, weight_key(1, 0, MatrixKind::kRouter));
  }
  return x_.get();
}

double GpuExpertTimer::time_us(std::span<const std::int32_t> tokens_per_expert) {
  const auto activated = static_cast<int>(tokens_per_expert.size());
  const int rows = std::accumulate(tokens_per_expert.begin(), tokens_per_expert.end(), 0);
  ep::cuda::ExpertStage stage({.hidden = shape_.hidden,
                               .intermediate = width_,
                               .topk = 1,
                               .max_tokens = rows,
                               .num_slots = activated,
                               .weights = shape_.weights});
  const auto ids = metro::cuda::upload(spread(tokens_per_expert));
  const __nv_bfloat16* x = tokens(rows);
  const double set_bytes = static_cast<double>(expert_bytes_) * activated;
  const double wanted = std::ceil(kCacheTurns * static_cast<double>(l2_cache_bytes()) / set_bytes);
  const int sets = std::max(1, std::min(static_cast<int>(wanted), pool_ / activated));
  const int calls = std::max(sets, 2);
  const auto permute = [&] { stage.permute(ids.get(), x, rows, 0, stream_); };
  const auto run = [&](int call) {
    stage.run(x, table_->weights().from(call % sets * activated), stream_);
  };
  permute();  // kernels load
  run(0);
  const ep::cuda::Graph with_experts(stream_, [&] {
    for (int call = 0; call < calls; ++call) {
      permute();
      run(call);
    }
  });
  const ep::cuda::Graph permutations(stream_, [&] {
    for (int call = 0; call < calls; ++call) permute();
  });
  StreamClock clock(stream_);
  for (int repeat = -2; repeat < repeats_; ++repeat) {
    if (repeat < 0) {
      with_experts.launch(stream_);
      permutations.launch(stream_);
    } else {
      clock.time(0, [&] { with_experts.launch(stream_); });
      clock.time(1, [&] { permutations.launch(stream_); });
    }
  }
  stream_.wait();
  const std::vector<double> times = clock.read(2);
  return (times[0] - times[1]) / calls;
}

}  // namespace metro::layer_bench::cuda
