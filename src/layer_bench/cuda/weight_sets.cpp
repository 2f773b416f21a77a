// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/weight_sets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "metro/error.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr std::size_t kMaxSets = 4;
constexpr std::size_t kReservedBytes = std::size_t{6} << 30;  // for all but weights

}  // namespace

WeightSets::WeightSets(const std::string& model, const ep::LayerShape& shape, std::uint64_t seed) {
  const ep::cuda::ExpertSlice whole = ep::cuda::whole_expert(shape);
  std::vector<std::int32_t> experts(static_cast<std::size_t>(shape.num_experts));
  std::iota(experts.begin(), experts.end(), 0);
  const std::size_t set_bytes = expert_bytes_on_gpu(shape, whole) * experts.size();
  std::size_t free_bytes = 0;
  std::size_t all_bytes = 0;
  METRO_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all_bytes));
  const std::size_t room = free_bytes > kReservedBytes ? free_bytes - kReservedBytes : 0;
  if (room < set_bytes) {
    const auto gb = [](std::size_t bytes) { return 1e-9 * static_cast<double>(bytes); };
    throw Error(
        ErrorCode::kInfeasible,
        fmt::format(
            "{}: the experts of one layer take {:.1f} GB in {}, the GPU has room for {:.1f}", model,
            gb(set_bytes), data_type_name(shape.weights), gb(room)));
  }
  const std::size_t count = std::min(kMaxSets, room / set_bytes);
  for (std::size_t i = 0; i < count; ++i) {
    sets_.push_back(std::make_unique<RandomGpuExperts>(shape, whole, experts, seed + i));
  }
}

}  // namespace metro::layer_bench::cuda
