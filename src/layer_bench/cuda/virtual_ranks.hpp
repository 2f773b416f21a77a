// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "cuda/device_memory.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/gate.hpp"
#include "ep/cuda/shared_expert.hpp"
#include "ep/cuda/slot_table.hpp"
#include "ep/cuda/stream.hpp"
#include "layer_bench/bench_grid.hpp"
#include "layer_bench/cuda/weight_sets.hpp"
#include "metro/cuda/router.hpp"

/// Ranks of a layer that take turns on one GPU. Stages are enqueued to the stream they are given.
namespace metro::layer_bench::cuda {

/// What all ranks have in common for one number of them and of tokens: inputs, gate, shared expert.
class VirtualTokens {
 public:
  VirtualTokens(const BenchModel& model, int num_ranks, int tokens_per_rank, std::uint64_t seed,
                const ep::cuda::Stream& stream);

  /// Makes that batch the one that the gate will come to.
  void use_batch(std::size_t batch, cudaStream_t stream) const;
  void run_gate(cudaStream_t stream);
  void run_shared(cudaStream_t stream);
  void run_route(metro::cuda::Router& router, cudaStream_t stream) const;

  [[nodiscard]] const ep::LayerShape& shape() const noexcept { return shape_; }
  [[nodiscard]] bool has_shared() const noexcept { return shared_.has_value(); }
  [[nodiscard]] int num_ranks() const noexcept { return num_ranks_; }
  [[nodiscard]] int rows() const noexcept { return num_ranks_ * tokens_per_rank_; }
  [[nodiscard]] std::size_t num_batches() const noexcept { return num_batches_; }
  [[nodiscard]] const __nv_bfloat16* x() const noexcept { return x_.get(); }
  [[nodiscard]] const std::int32_t* topk_ids() const noexcept { return topk_ids_.get(); }
  [[nodiscard]] const std::int32_t* replica_ids() const noexcept { return replica_ids_.get(); }
  [[nodiscard]] const float* topk_weights() const noexcept { return topk_weights_.get(); }
  /// Copies [rows][topk] ids to the host once the stream is done.
  [[nodiscard]] std::vector<std::int32_t> read(const std::int32_t* ids,
                                               const ep::cuda::Stream& stream) const;

 private:
  ep::LayerShape shape_;
  int num_ranks_;
  int tokens_per_rank_;
  std::size_t num_ids_;  // rows * topk
  std::size_t num_batches_ = 0;
  ep::cuda::Gate gate_;
  std::optional<ep::cuda::SharedExpert> shared_;
  ep::cuda::DenseWeights dense_;
  metro::cuda::DeviceArray<__nv_bfloat16> x_;
  metro::cuda::DeviceArray<__nv_bfloat16> gate_matrix_;
  metro::cuda::DeviceArray<__nv_bfloat16> shared_gate_up_;
  metro::cuda::DeviceArray<__nv_bfloat16> shared_down_;
  metro::cuda::DeviceArray<std::int32_t> counts_;      // [ranks]
  metro::cuda::DeviceArray<std::int32_t> batches_;     // [batches][rows][topk]
  metro::cuda::DeviceArray<std::int32_t> forced_ids_;  // the one in use
  metro::cuda::DeviceArray<std::int32_t> topk_ids_;
  metro::cuda::DeviceArray<std::int32_t> replica_ids_;
  metro::cuda::DeviceArray<float> topk_weights_;
};

/// The ranks of one placement; of moe-TP one, since they are all alike.
class VirtualRanks {
 public:
  VirtualRanks(VirtualTokens& tokens, const WeightSets& weights, const BenchCase& of,
               const ep::cuda::Stream& stream);

  /// Whether they are those of this case too.
  [[nodiscard]] bool serve(const BenchCase& of) const;

  void run_permute(int rank, cudaStream_t stream);
  void run_experts(int rank, std::size_t set, cudaStream_t stream);
  void run_combine(cudaStream_t stream);
  /// All stages; without a router the replica ids are those of its last run.
  void run_layer(metro::cuda::Router* router, int rank, std::size_t set, cudaStream_t stream);

  [[nodiscard]] int size() const noexcept { return num_ranks_; }
  [[nodiscard]] bool tensor_sharded() const noexcept { return tensor_sharded_; }
  [[nodiscard]] std::size_t num_sets() const noexcept { return tables_.size(); }
  /// Captured: what does not hang on the policy.
  [[nodiscard]] const ep::cuda::Graph& permute(int rank) const { return permute_[index(rank)]; }
  [[nodiscard]] const ep::cuda::Graph& experts(int rank, std::size_t set) const {
    return experts_[index(rank) * num_sets() + set];
  }
  [[nodiscard]] const ep::cuda::Graph& replayed_layer(int rank, std::size_t set) const {
    return replayed_[index(rank) * num_sets() + set];
  }

 private:
  static std::size_t index(int rank) noexcept { return static_cast<std::size_t>(rank); }

  VirtualTokens& tokens_;
  LayerPlacement placement_;
  bool tensor_sharded_;
  int num_ranks_;
  int num_slots_;  // of one rank
  ep::cuda::ExpertStage stage_;
  metro::cuda::DeviceArray<__nv_bfloat16> out_;
  std::vector<std::unique_ptr<ep::cuda::SlotTable>> tables_;  // [sets] of all ranks' slots
  std::vector<ep::cuda::Graph> permute_;                      // [ranks]
  std::vector<ep::cuda::Graph> experts_;                      // [ranks][sets]
  std::vector<ep::cuda::Graph> replayed_;                     // [ranks][sets]
};

}  // namespace metro::layer_bench::cuda
