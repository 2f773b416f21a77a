// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "metro/placement.hpp"

namespace metro {

/// One GPU that could serve an expert, by its lowest slot there.
struct Candidate {
  std::int32_t slot;
  std::int32_t gpu;
};

/// A placement turned around: which replicas an expert has.
///
/// `replicas` lists all slots in ascending order, copies on one GPU included; `candidates` has one
/// entry per distinct GPU, its lowest slot, in ascending slot order. Built once per placement.
class ReplicaIndex {
 public:
  /// Throws as LayerPlacement::validate.
  explicit ReplicaIndex(const LayerPlacement& placement);

  [[nodiscard]] int num_experts() const noexcept { return num_experts_; }
  [[nodiscard]] int num_gpus() const noexcept { return num_gpus_; }

  [[nodiscard]] std::span<const std::int32_t> replicas(int expert) const noexcept {
    return slice(replicas_, replica_begin_, expert);
  }
  [[nodiscard]] std::span<const Candidate> candidates(int expert) const noexcept {
    return slice(candidates_, candidate_begin_, expert);
  }
  /// The slot that serves the expert under `home`: the placement's list, else `exact_homes`.
  [[nodiscard]] std::span<const std::int32_t> home() const noexcept { return home_; }
  [[nodiscard]] std::span<const std::int32_t> replica_to_gpu() const noexcept {
    return replica_to_gpu_;
  }

 private:
  template <typename T>
  static std::span<const T> slice(const std::vector<T>& values,
                                  const std::vector<std::int32_t>& begin, int expert) noexcept {
    const auto e = static_cast<std::size_t>(expert);
    return {values.data() + begin[e], static_cast<std::size_t>(begin[e + 1] - begin[e])};
  }

  int num_experts_;
  int num_gpus_;
  std::vector<std::int32_t> replica_begin_;    // [experts + 1]
  std::vector<std::int32_t> replicas_;         // [replicas]
  std::vector<std::int32_t> candidate_begin_;  // [experts + 1]
  std::vector<Candidate> candidates_;
  std::vector<std::int32_t> home_;            // [experts]
  std::vector<std::int32_t> replica_to_gpu_;  // [replicas]
};

}  // namespace metro
