// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "metro/ep/layer_config.hpp"
#include "metro/ep/stages.hpp"
#include "metro/ep/transport.hpp"
#include "metro/ep/weights.hpp"
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
  std::string kernel;  ///< a name of cpu_kernels(); empty: the best of them
  int threads = 1;     ///< that run experts side by side, of this rank
};

/// The kernels that this build multiplies with, the best first; "plain" is always there.
std::span<const std::string_view> cpu_kernels();

/// An expert-parallel MoE layer on CPU ranks: gate, top-k, routing, experts, combine. Activations
/// are fp32; the shared expert runs where the token is.
///
///     MoeLayer layer(shape, placement, options, {}, dense, experts, transport);
///     layer.forward({.x = tokens, .num_tokens = n}, out);
///
/// Every rank makes one over its own transport and calls `forward` as often as the others; one
/// thread at a time. Deterministic: the same tokens, placement and options give the same bits in
/// every run, and the same replicas under both dispatches. Owns its workspace, which grows with the
/// largest step.
class MoeLayer {
 public:
  /// What `dense` and `experts` point to and `transport` must outlive the layer. Throws
  /// Error{kInput} for an invalid shape or placement, for one of another number of ranks or
  /// experts, and for weights that do not fit the shape; Error{kUsage} for unknown names.
  MoeLayer(const LayerShape& shape, const LayerPlacement& placement, const LayerOptions& options,
           const CpuOptions& cpu, const DenseWeights& dense, WeightSource& experts,
           Transport& transport);
  ~MoeLayer();
  MoeLayer(MoeLayer&&) noexcept;
  MoeLayer& operator=(MoeLayer&&) noexcept;

  /// Takes effect with the next step; all ranks alike. Throws as the constructor.
  void set_placement(const LayerPlacement& placement);

  /// Another policy from the next step on, as decode and prefill want; all ranks alike.
  void set_policy(std::string_view policy);

  /// Writes `out`, [num_tokens][hidden]. Throws Error{kInput} for spans of the wrong size, and as
  /// Transport.
  LayerRun forward(const TokenBatch& batch, std::span<float> out);

  /// Replicas of the rows that this rank routed in the last step, [rows][topk]; expert ids when
  /// moe-TP.
  [[nodiscard]] std::span<const std::int32_t> replica_ids() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace metro::ep
