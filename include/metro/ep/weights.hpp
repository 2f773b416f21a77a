// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "metro/model.hpp"

namespace metro::ep {

/// Side of the square blocks of fp8 weights that share a scale.
inline constexpr int kScaleBlock = 128;

/// A matrix of weights, row-major: a view of memory that someone else owns.
struct WeightMatrix {
  DataType type = DataType::kFloat32;
  int rows = 0;
  int cols = 0;
  const void* values = nullptr;   ///< [rows][cols] float, bf16 or e4m3
  const float* scales = nullptr;  ///< fp8: [ceil(rows / 128)][ceil(cols / 128)]

  [[nodiscard]] std::size_t size() const noexcept {
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
  }
};

/// One expert, or a shard of its width: y = down * (silu(gate * x) . (up * x)).
struct ExpertWeights {
  WeightMatrix gate_up{};  ///< [2 * width][hidden], the gate's rows first
  WeightMatrix down{};     ///< [hidden][width]
};

/// Bytes that a pass over the expert reads.
[[nodiscard]] inline double expert_bytes(const ExpertWeights& expert) noexcept {
  return static_cast<double>(expert.gate_up.size() + expert.down.size()) *
         bytes_per_value(expert.gate_up.type);
}

/// What a layer multiplies besides its routed experts; equal on all ranks. Views.
struct DenseWeights {
  std::span<const float> gate;  ///< [num_experts][hidden], fp32 whatever the experts have
  ExpertWeights shared{};       ///< all shared experts as one; empty where the layer has none
};

/// Where a rank finds the weights of the replicas that it serves.
class WeightSource {
 public:
  WeightSource() = default;
  virtual ~WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;

  /// The weights of `expert`, as replica `slot` of the placement; in a group of
  /// LayerOptions::shards ranks the rank's shard of them, and under moe-TP too, where `slot` is the
  /// expert. Asked once a slot for every placement that a layer is given; what it returns stays
  /// valid as long as the source.
  virtual const ExpertWeights& weights(int slot, int expert) = 0;
};

/// The part of every expert's intermediate width that a rank holds: all of it, or, under moe-TP,
/// 1/G of it.
struct Shard {
  int begin = 0;
  int end = 0;
  [[nodiscard]] int width() const noexcept { return end - begin; }
};
/// The shard of a rank under moe-TP; widths differ by at most one. In a group of s ranks that of
/// rank % s of s.
Shard shard_of(int intermediate, int rank, int num_ranks) noexcept;

}  // namespace metro::ep
