// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/random_experts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "layer_bench/cuda/random_fill.hpp"
#include "layer_bench/random_weights.hpp"
#include "metro/ep/weights.hpp"
#include "metro/error.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr std::size_t kAlignment = 256;  // of each matrix

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

std::size_t product(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

std::size_t num_scales(int rows, int cols) {
  const auto blocks = [](int n) { return (n + ep::kScaleBlock - 1) / ep::kScaleBlock; };
  return product(blocks(rows), blocks(cols));
}

/// Where the parts of one expert begin.
struct Layout {
  Layout(const ep::LayerShape& shape, const ep::cuda::ExpertSlice& slice)
      : value_bytes(shape.weights == DataType::kFp8 ? 1 : 2),
        gate_up_scales(num_scales(2 * slice.width, shape.hidden)),
        down_scales(num_scales(shape.hidden, slice.width)) {
    const bool scaled = shape.weights == DataType::kFp8;
    down = aligned(2 * product(slice.width, shape.hidden) * value_bytes);
    scales = down + aligned(product(slice.width, shape.hidden) * value_bytes);
    size = scales + (scaled ? aligned((gate_up_scales + down_scales) * sizeof(float)) : 0);
  }
  std::size_t value_bytes;
  std::size_t gate_up_scales;
  std::size_t down_scales;
  std::size_t down = 0;
  std::size_t scales = 0;
  std::size_t size = 0;
};

}  // namespace

std::size_t expert_bytes_on_gpu(const ep::LayerShape& shape,
                                const ep::cuda::ExpertSlice& slice) noexcept {
  return Layout(shape, slice).size;
}

RandomGpuExperts::RandomGpuExperts(const ep::LayerShape& shape, const ep::cuda::ExpertSlice& slice,
                                   std::span<const std::int32_t> experts, std::uint64_t seed) {
  if (shape.weights != DataType::kBf16 && shape.weights != DataType::kFp8) {
    throw Error(ErrorCode::kUsage, fmt::format("experts on the GPU are bf16 or fp8, not {}",
                                               data_type_name(shape.weights)));
  }
  const Layout layout(shape, slice);
  bytes_ = layout.size * experts.size();
  memory_ = metro::cuda::make_device_array<std::byte>(std::max<std::size_t>(bytes_, 1));
  const int valid = slice.end - slice.begin;
  const std::size_t half = product(slice.width, shape.hidden) * layout.value_bytes;
  std::byte* base = memory_.get();
  for (const std::int32_t expert : experts) {
    const auto id = static_cast<std::uint32_t>(expert);
    const auto gate_up = weight_key(seed, id, MatrixKind::kGateUp);
    for (const int part : {0, 1}) {  // gate, up
      launch_random_fill({.key = gate_up,
                          .whole_cols = shape.hidden,
                          .first_row = part * shape.intermediate + slice.begin,
                          .first_col = 0,
                          .valid_rows = valid,
                          .valid_cols = shape.hidden,
                          .rows = slice.width,
                          .cols = shape.hidden},
                         shape.weights, base + (part == 0 ? 0 : half), nullptr);
    }
    launch_random_fill({.key = weight_key(seed, id, MatrixKind::kDown),
                        .whole_cols = shape.intermediate,
                        .first_row = 0,
                        .first_col = slice.begin,
                        .valid_rows = shape.hidden,
                        .valid_cols = valid,
                        .rows = shape.hidden,
                        .cols = slice.width},
                       shape.weights, base + layout.down, nullptr);
    ep::cuda::ExpertPointers pointers{base, base + layout.down, nullptr, nullptr};
    if (shape.weights == DataType::kFp8) {
      auto* scales = reinterpret_cast<float*>(base + layout.scales);
      const auto scale = [](int cols) {
        return std::sqrt(3.0F / static_cast<float>(cols)) / 448.0F;
      };
      launch_fill(scale(shape.hidden), layout.gate_up_scales, scales, nullptr);
      launch_fill(scale(shape.intermediate), layout.down_scales, scales + layout.gate_up_scales,
                  nullptr);
      pointers.gate_up_scales = scales;
      pointers.down_scales = scales + layout.gate_up_scales;
    }
    experts_.push_back(pointers);
    base += layout.size;
  }
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
}

metro::cuda::DeviceArray<__nv_bfloat16> random_matrix(int rows, int cols, std::uint64_t key) {
  auto matrix = metro::cuda::make_device_array<__nv_bfloat16>(product(rows, cols));
  launch_random_fill({.key = key,
                      .whole_cols = cols,
                      .first_row = 0,
                      .first_col = 0,
                      .valid_rows = rows,
                      .valid_cols = cols,
                      .rows = rows,
                      .cols = cols},
                     DataType::kBf16, matrix.get(), nullptr);
  METRO_CUDA_CHECK(cudaDeviceSynchronize());
  return matrix;
}

}  // namespace metro::layer_bench::cuda
