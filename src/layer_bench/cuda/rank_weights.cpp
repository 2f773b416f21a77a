// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/rank_weights.hpp"

#include <algorithm>
#include <numeric>

#include "layer_bench/cuda/bench_timing.hpp"

namespace metro::layer_bench::cuda {
namespace {

constexpr std::size_t kMaxSets = 4;
constexpr std::size_t kCacheTurns = 4;  // weights of so many caches' sizes take turns

std::size_t index_of(int slot) { return static_cast<std::size_t>(slot); }

}  // namespace

RankWeights::RankWeights(const ep::LayerShape& shape, const BenchCase& of, int rank, int num_ranks,
                         std::uint64_t seed)
    : placement_(of.placement), sharding_(of.sharding) {
  const bool sharded = of.sharding == ep::ExpertSharding::kTensorSharded;
  std::vector<std::int32_t> experts;
  if (sharded) {
    experts.resize(index_of(shape.num_experts));
    std::iota(experts.begin(), experts.end(), 0);
  }
  for (int slot = 0; slot < placement_.num_replicas(); ++slot) {
    if (placement_.replica_to_gpu[index_of(slot)] == rank) {
      experts.push_back(placement_.replica_to_expert[index_of(slot)]);
    }
  }
  const ep::cuda::ExpertSlice slice =
      sharded ? ep::cuda::expert_slice(shape, rank, num_ranks) : ep::cuda::whole_expert(shape);
  const std::size_t bytes =
      std::max<std::size_t>(1, expert_bytes_on_gpu(shape, slice) * experts.size());
  const std::size_t count =
      std::clamp<std::size_t>(kCacheTurns * l2_cache_bytes() / bytes + 1, 1, kMaxSets);
  for (std::size_t set = 0; set < count; ++set) {
    sets_.push_back(std::make_unique<RandomGpuExperts>(shape, slice, experts, seed + set));
    pointers_.emplace_back();
    for (std::size_t i = 0; i < experts.size(); ++i) {
      pointers_.back().push_back((*sets_.back())[i]);
    }
  }
}

}  // namespace metro::layer_bench::cuda
