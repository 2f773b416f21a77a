// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "ep/cuda/stream.hpp"

/// What bench_experts is timed with, whoever multiplies.
namespace metro::bench {

using Bf16 = __nv_bfloat16;
using cuda::DeviceArray;
using cuda::make_device_array;
using cuda::upload;
using ep::cuda::Event;
using ep::cuda::Graph;

static __global__ void fill_random(std::uint16_t* values, std::size_t count, std::uint32_t seed) {
  const std::size_t stride = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    std::uint32_t x = static_cast<std::uint32_t>(i) * 2654435769U + seed;
    x ^= x >> 15;
    x *= 0x2c1b3c6dU;
    x ^= x >> 12;
    // bf16 in +-[2^-6, 2^-5), and two e4m3 of small size: sign, a few exponents, mantissa.
    values[i] = static_cast<std::uint16_t>((x & 0x8000U) | 0x3c80U | (x & 0x7fU));
  }
}

static __global__ void swiglu(const Bf16* gate_up, Bf16* out, int rows, int width) {
  const int stride = static_cast<int>(gridDim.x * blockDim.x);
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < rows * width;
       i += stride) {
    const Bf16* row = gate_up + static_cast<std::size_t>(i / width) * 2 * width + i % width;
    const float gate = __bfloat162float(row[0]);
    out[i] = __float2bfloat16_rn(gate / (1.0F + __expf(-gate)) * __bfloat162float(row[width]));
  }
}

/// Median time of one of the graphs, replayed in turn.
inline double median_us(const std::vector<Graph>& graphs, cudaStream_t stream, int replays) {
  std::vector<double> times;
  Event begin(true);
  Event end(true);
  for (const Graph& graph : graphs) graph.launch(stream);
  for (int i = 0; i < replays; ++i) {
    begin.record(stream);
    graphs[static_cast<std::size_t>(i) % graphs.size()].launch(stream);
    end.record(stream);
    end.wait();
    times.push_back(end.us_since(begin));
  }
  std::nth_element(times.begin(), times.begin() + replays / 2, times.end());
  return times[static_cast<std::size_t>(replays / 2)];
}

static __global__ void copy_kernel(const uint4* from, uint4* to, std::size_t count) {
  const std::size_t stride = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += 4 * stride) {
    uint4 values[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) values[j] = __ldcs(from + i + static_cast<std::size_t>(j) * stride);
#pragma unroll
    for (int j = 0; j < 4; ++j) __stcs(to + i + static_cast<std::size_t>(j) * stride, values[j]);
  }
}

/// The best of the runtime's copy and a plain kernel, read and written bytes.
inline double copy_gb_s(cudaStream_t stream) {
  const std::size_t bytes = std::size_t{4} << 30;
  auto from = make_device_array<char>(bytes);
  auto to = make_device_array<char>(bytes);
  fill_random<<<1024, 256, 0, stream>>>(reinterpret_cast<std::uint16_t*>(from.get()), bytes / 2, 3);
  double best = 1e30;
  const auto time = [&](auto enqueue) {
    std::vector<Graph> graphs;
    graphs.emplace_back(stream, enqueue);
    const double us = median_us(graphs, stream, 9);
    std::printf("copy: %.0f GB/s\n", 2e-3 * static_cast<double>(bytes) / us);
    best = std::min(best, us);
  };
  time([&] {
    METRO_CUDA_CHECK(
        cudaMemcpyAsync(to.get(), from.get(), bytes, cudaMemcpyDeviceToDevice, stream));
  });
  for (const unsigned blocks : {1024U, 4096U, 65536U}) {
    time([&] {
      copy_kernel<<<blocks, 512, 0, stream>>>(reinterpret_cast<const uint4*>(from.get()),
                                              reinterpret_cast<uint4*>(to.get()), bytes / 16);
    });
  }
  return 2e-3 * static_cast<double>(bytes) / best;
}

}  // namespace metro::bench
