// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "metro/calibration.hpp"
#include "metro/dispatch.hpp"
#include "metro/gpu.hpp"
#include "metro/model.hpp"
#include "metro/policy_names.hpp"
#include "metro/stage.hpp"

namespace metro {

/// How a model is laid out over GPUs.
///
/// Attention is sharded over `tp` GPUs and data-parallel over gpus / tp ranks. Experts lie on
/// `ep` GPUs, each expert sharded over gpus / ep of them; the `tensor_sharded_experts` of moe-TP
/// are sharded over all GPUs, whatever `ep` says.
struct Deployment {
  int gpus = 1;
  int tp = 1;
  int ep = 0;  ///< 0: as many as GPUs
  bool tensor_sharded_experts = false;
  int gpus_per_domain = 0;  ///< GPUs that fast links join; 0: what the GPU's usual host has
  Dispatch dispatch = Dispatch::kAllGather;
  DataType expert_weights = DataType::kBf16;
  DataType dense_weights = DataType::kBf16;  ///< of attention, dense and shared layers
  DataType kv = DataType::kBf16;
  int slots_per_gpu = 0;  ///< replica slots of a GPU in a layer; 0: one copy of every expert
  std::string policy{kDefaultDecodePolicy};
  std::string engine;  ///< "vllm", "sglang", "trtllm", or another: an average engine

  /// `weights` for the experts, with the types that such checkpoints have elsewhere.
  void set_weights(const ModelConfig& model, DataType weights) noexcept;

  [[nodiscard]] int attention_ranks() const noexcept { return gpus / tp; }
  [[nodiscard]] int expert_gpus() const noexcept { return ep > 0 ? ep : gpus; }
  /// GPUs that share one expert.
  [[nodiscard]] int expert_shards() const noexcept {
    return tensor_sharded_experts ? gpus : gpus / expert_gpus();
  }

  /// Columns of an expert that one GPU holds.
  [[nodiscard]] int shard_width(const ModelConfig& model) const noexcept {
    return model.expert_intermediate / expert_shards();
  }
  /// Shards whose scales cover blocks of 128 columns, but whose width is no multiple of that: an
  /// engine must pad them or scale anew, and times here do not know of it.
  [[nodiscard]] bool splits_scale_blocks(const ModelConfig& model) const noexcept {
    return expert_shards() > 1 && bytes_per_value(expert_weights) < 2 &&
           shard_width(model) % 128 != 0;
  }

  /// Throws Error{kUsage} that names the field, its value and what would be right;
  /// Error{kInfeasible} where the GPUs that share an expert do not divide its width.
  void validate(const ModelConfig& model) const;
};

/// What one step asks of the attention rank with the most work.
struct StepLoad {
  std::int64_t decode_rows = 0;            ///< tokens of requests that decode, drafts included
  std::int64_t decode_context_tokens = 0;  ///< keys that these see, summed over rows
  std::int64_t prefill_tokens = 0;
  std::int64_t prefill_pairs = 0;  ///< keys that each prefill token sees, summed over tokens
  std::int64_t logits_rows = 0;    ///< rows that need a next token
  std::int64_t global_tokens = 0;  ///< tokens of the step over all attention ranks
  int decode_requests = 0;         ///< requests behind `decode_rows`; 0: one a row
};

/// Microseconds by stage, summed over layers; routed experts are not in it (0).
struct StepTimes {
  std::array<double, kNumStages> us{};
  [[nodiscard]] double operator[](Stage stage) const noexcept {
    return us[static_cast<std::size_t>(stage)];
  }
  [[nodiscard]] double total_us() const noexcept;
};

/// Bytes of one GPU.
struct MemoryUse {
  double weights_bytes = 0;         ///< all weights, replica slots included
  double replica_bytes = 0;         ///< of that, what slots beyond one copy of every expert take
  double slot_bytes = 0;            ///< one slot more in every MoE layer
  double kv_bytes_per_token = 0;    ///< of a request's context, on each GPU of its attention rank
  double kv_bytes_per_request = 0;  ///< state that does not grow with the context
  std::int64_t kv_capacity_tokens = 0;  ///< per attention rank; 0: the weights do not fit
};

/// What a step of serving costs on a GPU: roofline with efficiencies fitted to public measured
/// tables (docs/cost-model.md), or `calibration` where that has the shape.
///
///     metro::CostModel cost(model, gpu, deployment);
///     double us = cost.step(load).total_us();
///     for (layer ...) us += max over GPUs of cost.expert_us(tokens_per_replica);
///
/// Immutable after construction, so threads may share it; nothing allocates but the constructor.
class CostModel {
 public:
  /// Throws as ModelConfig::validate and Deployment::validate.
  CostModel(const ModelConfig& model, const GpuSpec& gpu, const Deployment& deployment,
            const Calibration* calibration = nullptr);
  CostModel(const CostModel&);
  CostModel(CostModel&&) noexcept;
  CostModel& operator=(const CostModel&) = delete;
  CostModel& operator=(CostModel&&) = delete;
  ~CostModel();

  [[nodiscard]] StepTimes step(const StepLoad& load) const noexcept;

  /// Routed experts of one GPU in one layer: base + sum of phi over its replicas; 0 without tokens.
  [[nodiscard]] double expert_us(std::span<const std::int32_t> tokens_per_replica) const noexcept;
  /// Time that a replica with `tokens` adds to its GPU's; phi(0) is 0. A table lookup.
  [[nodiscard]] double phi_us(std::int64_t tokens) const noexcept;
  /// phi of an expected number of tokens, linear between whole ones; that of 1 below 1.
  [[nodiscard]] double expected_phi_us(double tokens) const noexcept;
  [[nodiscard]] double expert_base_us() const noexcept;
  /// The same layer with every expert sharded over all GPUs, without replicas or router.
  [[nodiscard]] double tensor_sharded_us(
      std::span<const std::int32_t> tokens_per_expert) const noexcept;

  /// Equal for models whose routed experts take the same time for any tokens, whole or sharded,
  /// whatever else they differ in: a digest of both times. To share what depends on nothing else.
  [[nodiscard]] std::string expert_time_identity() const;

  [[nodiscard]] MemoryUse memory() const noexcept;
  /// The constants of the deployment's engine; `mixes_prefill` says how it forms steps.
  [[nodiscard]] const Calibration::Engine& engine() const noexcept;
  /// Moving `bytes` of expert weights between GPUs for a new placement.
  [[nodiscard]] double rearrange_us(double bytes_per_gpu) const noexcept;

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
};

}  // namespace metro
