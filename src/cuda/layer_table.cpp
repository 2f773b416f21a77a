// SPDX-License-Identifier: Apache-2.0
#include "cuda/layer_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/replica_index.hpp"
#include "core/rng.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"
#include "routing/activation_solver.hpp"
#include "routing/share_thresholds.hpp"

namespace metro::cuda {
namespace {

/// Which kernel runs a policy. Whether one does is PolicyInfo::device; a test compares the two.
constexpr auto kKernels = std::to_array<DeviceKernel>({{"home", DevicePolicy::kHome},
                                                       {"hash", DevicePolicy::kHash},
                                                       {"shares", DevicePolicy::kShares},
                                                       {"even", DevicePolicy::kEven},
                                                       {"metro-paper", DevicePolicy::kMetroPaper},
                                                       {"metro", DevicePolicy::kMetro},
                                                       {"optimal", DevicePolicy::kOptimal}});

std::size_t at(int index) noexcept { return static_cast<std::size_t>(index); }
std::uint32_t word(int value) noexcept { return static_cast<std::uint32_t>(value); }

/// A table being filled.
class TableWriter {
 public:
  TableWriter(const TableLayout& layout, std::span<std::uint32_t> table)
      : layout_(layout), table_(table) {
    std::ranges::fill(table_, 0U);
  }

  std::uint32_t& operator()(int section, int index) { return table_[at(section + index)]; }

  void set_mask(int section, int expert, int gpu) {
    (*this)(section, expert / 32 * layout_.gpu_stride + gpu) |= 1U << (expert % 32);
  }

  void add_entry(int expert, int slot, int gpu) {
    const int position = entries_++;
    (*this)(layout_.entries, position) = word(slot) | word(gpu) << 16;
    std::uint32_t& list = (*this)(layout_.lists, expert);
    if (list == 0) list = word(position);
    list += 1U << 16;
  }

 private:
  const TableLayout& layout_;
  std::span<std::uint32_t> table_;
  int entries_ = 0;
};

void write_base(const ReplicaIndex& index, const TableLayout& layout, TableWriter& table) {
  const routing::ActivationSolver solver(index);
  for (int e = 0; e < index.num_experts(); ++e) {
    const Candidate& base = solver.base()[at(e)];
    table(layout.slots, e) = word(base.slot);
    table.set_mask(layout.base_masks, e, base.gpu);
    if (index.candidates(e).size() < 2) continue;
    for (const Candidate& candidate : index.candidates(e)) {
      table.set_mask(layout.host_masks, e, candidate.gpu);
    }
  }
}

void write_order(const ReplicaIndex& index, DevicePolicy policy, const TableLayout& layout,
                 TableWriter& table) {
  std::vector<std::int32_t> order(at(index.num_experts()));
  std::iota(order.begin(), order.end(), 0);
  if (policy == DevicePolicy::kMetro) {
    std::ranges::sort(order, {}, [&](int e) { return std::pair(index.candidates(e).size(), e); });
  }
  for (int i = 0; i < index.num_experts(); ++i) {
    const int expert = order[at(i)];
    table(layout.order, i) = word(expert);
    for (const Candidate& candidate : index.candidates(expert)) {
      table(layout.order_gpus, 2 * i + candidate.gpu / 32) |= 1U << (candidate.gpu % 32);
    }
  }
}

void write_replicas(const ReplicaIndex& index, TableWriter& table) {
  for (int e = 0; e < index.num_experts(); ++e) {
    for (const int slot : index.replicas(e)) {
      table.add_entry(e, slot, index.replica_to_gpu()[at(slot)]);
    }
  }
}

void write_candidates(const ReplicaIndex& index, TableWriter& table) {
  for (int e = 0; e < index.num_experts(); ++e) {
    for (const Candidate& candidate : index.candidates(e)) {
      table.add_entry(e, candidate.slot, candidate.gpu);
    }
  }
}

void write_thresholds(const LayerPlacement& placement, const TableLayout& layout,
                      TableWriter& table) {
  int position = 0;
  for (const std::uint64_t threshold : routing::share_thresholds(placement)) {
    table(layout.thresholds, position++) = static_cast<std::uint32_t>(threshold);
    table(layout.thresholds, position++) = static_cast<std::uint32_t>(threshold >> 32);
  }
}

/// Equal placements have equal fingerprints on every rank, however often each was updated.
std::uint32_t fingerprint(const LayerPlacement& placement, const ReplicaIndex& index) {
  std::uint64_t state = mix64(at(placement.num_experts) << 32 | at(placement.num_gpus));
  const auto add = [&](std::span<const std::int32_t> values) {
    for (const std::int32_t value : values)
      state = mix64(state ^ static_cast<std::uint32_t>(value));
  };
  add(placement.replica_to_expert);
  add(placement.replica_to_gpu);
  add(index.home());
  return static_cast<std::uint32_t>(state >> 32);
}

void check_fits(const LayerPlacement& placement, const TableLayout& layout) {
  if (placement.num_experts != layout.num_experts || placement.num_gpus != layout.num_gpus) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("placement has {} experts on {} GPUs, the router was built for {} on {}",
                    placement.num_experts, placement.num_gpus, layout.num_experts,
                    layout.num_gpus));
  }
  if (placement.num_replicas() > layout.max_replicas) {
    throw Error(ErrorCode::kInput,
                fmt::format("placement has {} replicas, the router takes up to {}",
                            placement.num_replicas(), layout.max_replicas));
  }
}

}  // namespace

std::span<const DeviceKernel> device_kernels() noexcept { return kKernels; }

DevicePolicy device_policy(std::string_view name) {
  const PolicyInfo& info = require_policy(name);
  if (!info.device) {
    std::vector<std::string_view> names;
    for (const PolicyInfo& policy : policies()) {
      if (policy.device) names.push_back(policy.name);
    }
    throw Error(ErrorCode::kUsage,
                fmt::format("policy '{}' does not run on a GPU; those that do: {}", name,
                            fmt::join(names, ", ")));
  }
  return std::ranges::find(kKernels, name, &DeviceKernel::policy)->kernel;
}

TableLayout table_layout(DevicePolicy policy, int num_experts, int num_gpus, int max_replicas) {
  TableLayout layout;
  layout.num_experts = num_experts;
  layout.num_gpus = num_gpus;
  layout.max_replicas = max_replicas;
  layout.mask_words = mask_words_of(num_experts);
  layout.gpu_stride = num_gpus <= 32 ? 32 : 64;
  int end = 0;
  const auto section = [&](int& begin, int words) {
    begin = end;
    end += (words + 3) / 4 * 4;
  };
  const bool optimal = policy == DevicePolicy::kOptimal;
  const bool greedy = policy == DevicePolicy::kMetro || policy == DevicePolicy::kMetroPaper;
  const bool lists = policy != DevicePolicy::kHome;
  const int mask = layout.mask_words * layout.gpu_stride;
  section(layout.slots, optimal || greedy ? num_experts : 0);
  section(layout.base_masks, optimal ? mask : 0);
  section(layout.host_masks, optimal ? mask : 0);
  section(layout.order, greedy ? num_experts : 0);
  section(layout.order_gpus, greedy ? 2 * num_experts : 0);
  section(layout.lists, lists ? num_experts : 0);
  section(layout.entries, lists ? max_replicas : 0);
  section(layout.thresholds, policy == DevicePolicy::kShares ? 2 * max_replicas : 0);
  layout.staged_words = end;
  section(layout.home, num_experts);
  section(layout.replica_gpus, max_replicas);
  section(layout.epoch, 1);
  layout.total_words = end;
  return layout;
}

void build_layer_table(const LayerPlacement& placement, DevicePolicy policy,
                       const TableLayout& layout, std::span<std::uint32_t> table) {
  const ReplicaIndex index(placement);
  check_fits(placement, layout);
  TableWriter writer(layout, table);
  for (int e = 0; e < index.num_experts(); ++e) {
    writer(layout.home, e) = word(index.home()[at(e)]);
  }
  for (int slot = 0; slot < placement.num_replicas(); ++slot) {
    writer(layout.replica_gpus, slot) = word(placement.replica_to_gpu[at(slot)]);
  }
  writer(layout.epoch, 0) = fingerprint(placement, index);
  switch (policy) {
    case DevicePolicy::kHome:
      break;
    case DevicePolicy::kHash:
    case DevicePolicy::kEven:
      write_replicas(index, writer);
      break;
    case DevicePolicy::kShares:
      write_replicas(index, writer);
      write_thresholds(placement, layout, writer);
      break;
    case DevicePolicy::kMetroPaper:
    case DevicePolicy::kMetro:
      write_order(index, policy, layout, writer);
      write_candidates(index, writer);
      break;
    case DevicePolicy::kOptimal:
      write_base(index, layout, writer);
      write_candidates(index, writer);
      break;
  }
}

}  // namespace metro::cuda
