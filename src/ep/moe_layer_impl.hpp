// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ep/expert_stage.hpp"
#include "ep/gate.hpp"
#include "ep/replica_chooser.hpp"
#include "ep/stage_clock.hpp"
#include "ep/token_exchange.hpp"
#include "ep/token_targets.hpp"
#include "metro/ep/moe_layer.hpp"

namespace metro::ep {

/// What a MoeLayer owns, and the parts of a step.
struct MoeLayer::Impl {
  Impl(const LayerShape& shape, const LayerPlacement& placement, const LayerOptions& options,
       const CpuOptions& cpu, const DenseWeights& dense, WeightSource& experts,
       Transport& transport);

  void set_placement(const LayerPlacement& placement);
  void set_policy(std::string_view policy);
  LayerRun forward(const TokenBatch& batch, std::span<float> out);
  void share_counts(const TokenBatch& batch);
  void forward_all_gather(const TokenBatch& batch, std::span<float> out);
  void forward_all_to_all(const TokenBatch& batch, std::span<float> out);
  void run_gate(std::span<const float> x, int num_tokens, const TokenBatch& batch);
  void take_replicas(std::span<const std::int32_t> given);
  void run_experts(std::span<const float> x, std::span<const std::int32_t> replica_ids,
                   std::span<const float> weights);
  void combine_all_to_all(std::span<float> out);
  void add_returned(std::span<const float> returned, int first_row, std::span<float> out);
  void add_shared(const TokenBatch& batch, std::span<float> out);
  [[nodiscard]] std::size_t num_ranks() const noexcept { return tokens_.size(); }

  LayerShape shape_;
  LayerOptions options_;
  WeightSource& weights_;
  ExpertWeights shared_;
  Transport& transport_;
  Gate gate_;
  ExpertStage experts_;
  LayerPlacement placement_;
  std::optional<ReplicaChooser> chooser_;  // none: moe-TP
  TokenTargets targets_;
  TokenExchange exchange_;
  int num_slots_ = 0;
  std::unique_ptr<Matmul> shared_matmul_;
  MlpWorkspace shared_mlp_;
  StageClock clock_;

  std::vector<int> tokens_;  // [ranks]
  std::vector<int> valid_;   // [ranks]
  std::vector<int> first_;   // [ranks + 1] row in the global batch
  std::vector<std::int32_t> expert_ids_;
  std::vector<float> gate_weights_;
  std::vector<std::int32_t> replica_ids_;
  std::vector<float> x_;        // all-gathered, [rows][hidden]
  std::vector<float> partial_;  // what this rank adds to each row it has, [rows][hidden]
  std::vector<float> served_;   // those rows of it that go back
  std::vector<float> returned_;
  std::vector<float> shared_out_;
};

}  // namespace metro::ep
