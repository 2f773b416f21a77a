// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace metro::ep {

/// Which rows each GPU serves: every row once per GPU, however many of its experts are there.
class TokenTargets {
 public:
  /// `slot_to_gpu` of the placement; empty: moe-TP, every GPU serves each row that has an
  /// expert. Where it names groups, all `shards` GPUs of a group serve its rows.
  TokenTargets(std::vector<std::int32_t> slot_to_gpu, int num_gpus, int shards = 1)
      : slot_to_gpu_(std::move(slot_to_gpu)),
        shards_(static_cast<std::size_t>(shards)),
        rows_(static_cast<std::size_t>(num_gpus)) {}

  /// `replica_ids` is [num_rows][topk], valid slots or -1.
  void compute(std::span<const std::int32_t> replica_ids, int num_rows);

  /// Ascending.
  [[nodiscard]] std::span<const std::int32_t> rows(int gpu) const noexcept {
    return rows_[static_cast<std::size_t>(gpu)];
  }
  /// Those of them in [begin, end).
  [[nodiscard]] std::span<const std::int32_t> rows(int gpu, int begin, int end) const noexcept;

 private:
  void add(std::size_t gpu, int row);

  std::vector<std::int32_t> slot_to_gpu_;
  std::size_t shards_ = 1;
  std::vector<std::vector<std::int32_t>> rows_;  // [GPUs]
};

}  // namespace metro::ep
