// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/bench_timing.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "metro/error.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr int kCalls = 16;
constexpr int kWarmups = 2;

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::size_t l2_cache_bytes() {
  int device = 0;
  int bytes = 0;
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device));
  return static_cast<std::size_t>(bytes);
}

double measure_copy_gb_s(cudaStream_t stream) {
  std::size_t free_bytes = 0;
  std::size_t all_bytes = 0;
  METRO_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all_bytes));
  const std::size_t bytes = std::min(std::size_t{2} << 30, free_bytes / 4);
  const auto from = metro::cuda::make_device_array<std::byte>(bytes);
  const auto to = metro::cuda::make_device_array<std::byte>(bytes);
  METRO_CUDA_CHECK(cudaMemset(from.get(), 0x5a, bytes));  // zeros may copy faster
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  StreamClock clock(stream);
  const auto copy = [&] {
    METRO_CUDA_CHECK(
        cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream));
  };
  for (int i = 0; i < kWarmups; ++i) copy();
  for (int i = 0; i < 15; ++i) clock.time(0, copy);
  METRO_CUDA_CHECK(cudaStreamSynchronize(stream));
  const double us = clock.read(1)[0];
  return 2e-3 * static_cast<double>(bytes) / us;
}

StreamClock::Lap& StreamClock::next(std::size_t cell) {
  if (used_ == laps_.size()) laps_.push_back(std::make_unique<Lap>());
  Lap& lap = *laps_[used_++];
  lap.cell = cell;
  return lap;
}

std::vector<double> StreamClock::read(std::size_t num_cells) {
  std::vector<std::vector<double>> times(num_cells);
  for (std::size_t i = 0; i < used_; ++i) {
    times[laps_[i]->cell].push_back(laps_[i]->end.us_since(laps_[i]->begin));
  }
  used_ = 0;
  std::vector<double> medians;
  for (std::vector<double>& of_cell : times) medians.push_back(median(std::move(of_cell)));
  return medians;
}

double time_in_a_row(cudaStream_t stream, int repeats, const std::function<void()>& enqueue,
                     const std::function<void()>& wait) {
  const ep::cuda::Graph graph(stream, [&] {
    for (int i = 0; i < kCalls; ++i) enqueue();
  });
  StreamClock clock(stream);
  for (int i = 0; i < kWarmups; ++i) graph.launch(stream);
  for (int i = 0; i < repeats; ++i) clock.time(0, [&] { graph.launch(stream); });
  wait();
  return clock.read(1)[0] / kCalls;
}

}  // namespace metro::layer_bench::cuda
