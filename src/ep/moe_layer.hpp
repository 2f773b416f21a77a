// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ep/expert_stage.hpp"
#include "ep/gate.hpp"
#include "ep/layer_config.hpp"
#include "ep/replica_chooser.hpp"
#include "ep/stage_times.hpp"
#include "ep/token_exchange.hpp"
#include "ep/token_targets.hpp"
#include "ep/transport.hpp"
#include "metro/placement.hpp"

namespace metro::ep {

/// One rank's tokens for one step.
struct TokenBatch {
  std::span<const float> x;  ///< [num_tokens][hidden]
  int num_tokens = 0;        ///< may be 0, and differ from rank to rank
  int num_valid = -1;        ///< rows from here on are padding, their output is 0; -1: none

  /// Given to replay a trace, else empty: the experts of the rows that this rank's gate sees (all
  /// ranks' rows under all-gather dispatch, its own otherwise), [rows][topk], -1 = masked.
  std::span<const std::int32_t> expert_ids{};
  /// Given on all ranks to replay a routing: the replicas of those rows. Neither exchange nor
  /// router runs. Not merely empty when there are none: a rank without tokens must do as the
  /// others.
  std::optional<std::span<const std::int32_t>> replica_ids{};
};

/// What one step did on this rank.
struct LayerRun {
  StageTimes stage_us{};
  int activated = 0;            ///< replicas of this rank that got a token
  std::size_t assignments = 0;  ///< (token, k) that they served
  double weight_bytes = 0;      ///< that the expert stage read
};

/// Kernel and threads of a layer on the CPU.
struct CpuOptions {
  std::string kernel;  ///< a name of matmul_kernels(); empty: the best
  int threads = 1;
};

/// An expert-parallel MoE layer on CPU ranks: gate, top-k, routing, experts, combine. Activations
/// are fp32; the shared expert runs where the token is.
///
///     MoeLayer layer(shape, placement, options, {}, weights, transport);
///     layer.forward({.x = tokens, .num_tokens = n}, out);
///
/// Every rank makes one over its own transport and calls `forward` as often as the others.
/// Deterministic: the same tokens, placement and options give the same bits in every run, and the
/// same replicas under both dispatches. Owns its workspace, which grows with the largest step.
class MoeLayer {
 public:
  /// `weights` (of the rank's shard, when tensor-sharded) and `transport` must outlive the layer.
  /// Throws Error{kInput} for an invalid shape or placement, or one for another number of ranks or
  /// experts, Error{kUsage} for unknown names.
  MoeLayer(const LayerShape& shape, const LayerPlacement& placement, const LayerOptions& options,
           const CpuOptions& cpu, WeightSource& weights, Transport& transport);

  /// Takes effect with the next step; all ranks alike. Throws as the constructor.
  void set_placement(const LayerPlacement& placement);

  /// Another policy from the next step on, as decode and prefill want; all ranks alike.
  void set_policy(std::string_view policy);

  /// Writes `out`, [num_tokens][hidden]. Throws Error{kInput} for spans of the wrong size, and as
  /// Transport.
  LayerRun forward(const TokenBatch& batch, std::span<float> out);

  /// Replicas of the rows that this rank routed in the last step, [rows][topk]; expert ids when
  /// tensor-sharded.
  [[nodiscard]] std::span<const std::int32_t> replica_ids() const noexcept { return replica_ids_; }

 private:
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
  Transport& transport_;
  Gate gate_;
  ExpertStage experts_;
  LayerPlacement placement_;
  std::optional<ReplicaChooser> chooser_;  // none: tensor-sharded
  TokenTargets targets_;
  TokenExchange exchange_;
  int num_slots_ = 0;
  std::unique_ptr<RandomExpert> shared_;
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
