// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "metro/placement.hpp"

/// What kernels need to know of one layer: a table of 32-bit words in sections, the same offsets
/// for every layer of a router, so that a placement is replaced by one copy. Plain C++: no CUDA
/// here.
namespace metro::cuda {

inline constexpr int kMaxRouterExperts = 1024;
inline constexpr int kMaxRouterGpus = 64;
inline constexpr int kMaxRouterReplicas = 8192;

/// The device's policies; those from kMetroPaper on look at which experts are active.
enum class DevicePolicy { kHome, kHash, kShares, kEven, kMetroPaper, kMetro, kOptimal };

[[nodiscard]] constexpr bool needs_active_experts(DevicePolicy policy) noexcept {
  return policy >= DevicePolicy::kMetroPaper;
}

/// The kernel that is a policy's device version.
struct DeviceKernel {
  std::string_view policy;
  DevicePolicy kernel;
};
std::span<const DeviceKernel> device_kernels() noexcept;

/// Throws Error{kUsage} for a name that has no kernel, naming those that do.
DevicePolicy device_policy(std::string_view name);

/// Where each section begins, in words; a section that the policy does without is empty. The first
/// `staged_words` are what a kernel copies to shared memory. All multiples of four (16 bytes).
struct TableLayout {
  int num_experts = 0;
  int num_gpus = 0;
  int max_replicas = 0;
  int mask_words = 0;  ///< words of a bitmap over experts: 8, 16 or 32
  int gpu_stride = 0;  ///< 32 or 64: GPUs that there are not have empty bitmaps

  int slots = 0;       ///< [experts] the base of `optimal`; filled in by a greedy
  int base_masks = 0;  ///< [mask_words][gpu_stride] experts whose base is this GPU
  int host_masks = 0;  ///< [mask_words][gpu_stride] experts with a choice that could be on this GPU
  int order = 0;       ///< [experts] in the order in which a greedy visits them
  int order_gpus = 0;  ///< [experts][2] bitmap of candidate GPUs, in that order
  int lists = 0;       ///< [experts] begin | count << 16 into `entries`
  int entries = 0;     ///< [max_replicas] slot | gpu << 16 of replicas, or of candidates
  int thresholds = 0;  ///< [max_replicas][2] 64-bit share thresholds of `entries`
  int staged_words = 0;

  int home = 0;          ///< [experts] slot
  int replica_gpus = 0;  ///< [max_replicas] GPU of each slot
  int epoch = 0;         ///< fingerprint of the placement
  int total_words = 0;
};

/// `num_words` says how long a bitmap over this many experts is in kernels: 8, 16 or 32.
[[nodiscard]] constexpr int mask_words_of(int num_experts) noexcept {
  return num_experts <= 256 ? 8 : num_experts <= 512 ? 16 : 32;
}

TableLayout table_layout(DevicePolicy policy, int num_experts, int num_gpus, int max_replicas);

/// Fills `table` (layout.total_words long). Throws Error{kInput} for a placement that is invalid or
/// does not fit the layout.
void build_layer_table(const LayerPlacement& placement, DevicePolicy policy,
                       const TableLayout& layout, std::span<std::uint32_t> table);

}  // namespace metro::cuda
