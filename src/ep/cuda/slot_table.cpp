// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/slot_table.hpp"

#include <cstring>

namespace metro::ep::cuda {
namespace {

constexpr int kPointers = 4;  // of an expert

std::size_t at(int index) noexcept { return static_cast<std::size_t>(index); }

}  // namespace

std::vector<SlotPlace> slot_places(const LayerPlacement& placement) {
  std::vector<std::int16_t> next(at(placement.num_gpus), 0);
  std::vector<SlotPlace> places;
  places.reserve(placement.replica_to_gpu.size());
  for (const std::int32_t gpu : placement.replica_to_gpu) {
    places.push_back({static_cast<std::int16_t>(gpu), next[at(gpu)]++});
  }
  return places;
}

std::vector<int> slots_per_gpu(const LayerPlacement& placement) {
  std::vector<int> counts(at(placement.num_gpus), 0);
  for (const std::int32_t gpu : placement.replica_to_gpu) ++counts[at(gpu)];
  return counts;
}

bool is_contiguous(const LayerPlacement& placement) {
  const int replicas = placement.num_replicas();
  if (replicas % placement.num_gpus != 0) return false;
  return placement.replica_to_gpu == contiguous_gpus(replicas, placement.num_gpus);
}

SlotTable::SlotTable(const WeightShape& shape, int max_local_slots, int max_replicas)
    : shape_(shape),
      has_maps_(has_weight_maps()),
      num_local_(at(max_local_slots)),
      pointers_at_(has_maps_ ? num_local_ * sizeof(WeightMaps) : 0),
      places_at_(pointers_at_ + num_local_ * kPointers * sizeof(void*)),
      num_bytes_(places_at_ + at(max_replicas) * sizeof(SlotPlace)),
      device_(metro::cuda::make_device_array<std::byte>(num_bytes_)),
      staging_(metro::cuda::make_pinned_array<std::byte>(num_bytes_)) {
  std::memset(staging_.get(), 0, num_bytes_);
}

void SlotTable::update(std::span<const SlotPlace> places,
                       std::span<const ExpertPointers> local_slots, cudaStream_t stream) {
  copied_.wait();
  std::byte* const base = staging_.get();
  for (std::size_t slot = 0; slot < local_slots.size(); ++slot) {
    const ExpertPointers& expert = local_slots[slot];
    const void* const pointers[kPointers] = {expert.gate_up, expert.down, expert.gate_up_scales,
                                             expert.down_scales};
    for (std::size_t i = 0; i < kPointers; ++i) {
      std::memcpy(base + pointers_at_ + (i * num_local_ + slot) * sizeof(void*),
                  static_cast<const void*>(&pointers[i]), sizeof(void*));
    }
    if (has_maps_) {
      const WeightMaps maps = make_weight_maps(shape_, expert);
      std::memcpy(base + slot * sizeof maps, &maps, sizeof maps);
    }
  }
  if (!places.empty()) {
    std::memcpy(base + places_at_, places.data(), places.size_bytes());
  }
  METRO_CUDA_CHECK(
      cudaMemcpyAsync(device_.get(), base, num_bytes_, cudaMemcpyHostToDevice, stream));
  copied_.record(stream);
}

const SlotPlace* SlotTable::places() const noexcept {
  return reinterpret_cast<const SlotPlace*>(device_.get() + places_at_);
}

SlotWeights SlotTable::weights() const noexcept {
  const std::byte* base = device_.get() + pointers_at_;
  const std::size_t stride = num_local_ * sizeof(void*);
  return {.gate_up = reinterpret_cast<const void* const*>(base),
          .down = reinterpret_cast<const void* const*>(base + stride),
          .gate_up_scales = reinterpret_cast<const float* const*>(base + 2 * stride),
          .down_scales = reinterpret_cast<const float* const*>(base + 3 * stride),
          .maps = has_maps_ ? reinterpret_cast<const WeightMaps*>(device_.get()) : nullptr};
}

}  // namespace metro::ep::cuda
