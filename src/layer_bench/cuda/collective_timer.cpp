// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/collective_timer.hpp"

#include <functional>
#include <string>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "ep/cuda/stream.hpp"
#include "layer_bench/cuda/bench_timing.hpp"
#include "layer_bench/cuda/gather_values.hpp"

namespace metro::layer_bench::cuda {
namespace {

using Bf16 = __nv_bfloat16;

constexpr std::size_t kLeastBytes = 1024;
constexpr std::size_t kMostBytes = std::size_t{64} << 20;
constexpr std::size_t kStep = 4;

struct Verb {
  std::string name;
  std::function<void(std::size_t bytes)> enqueue;  // `bytes`: the larger buffer of a rank
};

}  // namespace

std::vector<Calibration::Collective> time_collectives(ep::cuda::NcclTransport& transport,
                                                      bool quick) {
  const ep::cuda::Stream stream;
  const auto ranks = static_cast<std::size_t>(transport.size());
  const auto send = metro::cuda::make_device_array<Bf16>(kMostBytes / sizeof(Bf16));
  const auto receive = metro::cuda::make_device_array<Bf16>(kMostBytes / sizeof(Bf16));
  // Zeros, so that sums of any number of calls in a row stay finite.
  METRO_CUDA_CHECK(cudaMemset(send.get(), 0, kMostBytes));
  METRO_CUDA_CHECK(cudaMemset(receive.get(), 0, kMostBytes));
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  const std::vector<Verb> verbs = {
      {"all-gather",
       [&](std::size_t bytes) {
         const ep::cuda::Transfer transfer{send.get(), receive.get(), bytes / ranks};
         transport.all_gather({&transfer, 1}, stream);
       }},
      {"reduce-scatter",
       [&](std::size_t bytes) {
         transport.reduce_scatter(send.get(), receive.get(), bytes / ranks / sizeof(Bf16), stream);
       }},
      {"all-reduce",
       [&](std::size_t bytes) {
         transport.all_reduce(receive.get(), bytes / sizeof(Bf16), stream);
       }},
      {"all-to-all",
       [&](std::size_t bytes) {
         const ep::cuda::Transfer transfer{send.get(), receive.get(), bytes / ranks};
         transport.all_to_all({&transfer, 1}, stream);
       }},
  };
  const std::size_t step = quick ? kStep * kStep * kStep : kStep;
  std::vector<Calibration::Collective> collectives;
  for (const Verb& verb : verbs) {
    verb.enqueue(kMostBytes);  // NCCL connects
    transport.wait(stream);
    Calibration::Collective collective;
    collective.name = verb.name;
    collective.gpus = transport.size();
    std::vector<double> own;
    for (std::size_t bytes = kLeastBytes; bytes <= kMostBytes; bytes *= step) {
      collective.points.emplace_back(static_cast<std::int64_t>(bytes), 0.0);
      own.push_back(time_in_a_row(
          stream, quick ? 3 : 9, [&] { verb.enqueue(bytes); }, [&] { transport.wait(stream); }));
    }
    const std::vector<double> us = slowest(gather(transport, stream, own));
    for (std::size_t i = 0; i < us.size(); ++i) collective.points[i].second = rounded_us(us[i]);
    collectives.push_back(std::move(collective));
  }
  return collectives;
}

}  // namespace metro::layer_bench::cuda
