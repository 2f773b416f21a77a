// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "ep/matmul.hpp"
#include "ep/swiglu.hpp"
#include "metro/ep/layer_config.hpp"
#include "metro/ep/weights.hpp"

namespace metro::ep {

/// The experts that one rank holds, on the CPU: permute, run, combine, in this order.
///
///     stage.permute(replica_ids, num_tokens);
///     stage.run(x);
///     stage.combine(weights, out);
///
/// Only replicas that got a token are touched. Deterministic, for any number of threads. Slots are
/// replicas of the placement, or, moe-TP, expert ids.
class ExpertStage {
 public:
  /// Experts run side by side on `num_threads` threads, each with a kernel of its own.
  ExpertStage(const LayerShape& shape, std::string_view kernel, int num_threads);

  /// Which slots are this rank's, with their weights; again when the placement changes.
  /// `slot_to_expert` covers all slots, `is_local` says which of them the rank holds, `width` is an
  /// expert's, or its shard's. Throws Error{kInput} for weights that do not fit.
  void set_slots(std::span<const std::int32_t> slot_to_expert, const std::vector<bool>& is_local,
                 int width, WeightSource& source);

  /// Lists the rank's (token, k) by slot, in row order; ids of other ranks' slots and -1 are
  /// ignored.
  void permute(std::span<const std::int32_t> replica_ids, int num_tokens);

  /// Runs every activated slot on its rows of `x`, [num_tokens][hidden].
  void run(std::span<const float> x);

  /// out[t] = sum over k, in order, of weights[t][k] * expert output; 0 for tokens of others.
  void combine(std::span<const float> weights, std::span<float> out) const;

  [[nodiscard]] int activated() const noexcept { return static_cast<int>(active_.size()); }
  [[nodiscard]] std::size_t assignments() const noexcept { return rows_.size(); }
  /// Weights that `run` reads.
  [[nodiscard]] double weight_bytes() const noexcept;

 private:
  struct ActiveSlot {
    std::int32_t slot;
    std::size_t begin;  // in rows_
    std::size_t end;
  };
  struct Worker {
    std::unique_ptr<Matmul> matmul;
    std::vector<float> x;  // [rows][hidden]
    MlpWorkspace mlp;
  };

  void run_slot(const ActiveSlot& active, std::span<const float> x, Worker& worker);

  LayerShape shape_;
  std::vector<Worker> workers_;
  std::vector<const ExpertWeights*> weights_;  // [slots]; null: another rank's
  std::vector<std::size_t> counts_;            // [slots] rows; then where the next one goes
  std::vector<ActiveSlot> active_;             // ascending slots
  std::vector<std::int32_t> rows_;             // [assignments] token of each, by slot
  std::vector<std::int64_t> position_;         // [tokens][topk] in rows_; -1: not here
  std::vector<float> y_;                       // [assignments][hidden]
};

}  // namespace metro::ep
