// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <span>

#include "ep/cuda/device_transport.hpp"
#include "ep/cuda/layer_weights.hpp"
#include "metro/ep/layer_config.hpp"
#include "metro/ep/stages.hpp"
#include "metro/placement.hpp"

namespace metro::ep::cuda {

/// What a layer must have room for.
struct LayerCapacity {
  int max_tokens = 0;  ///< of one rank; equal on all ranks
  /// Slots of one rank, in any placement to come. 0: as now; then, where slots are contiguous and
  /// equally many on every GPU, they must stay so, which saves a kernel.
  int max_local_slots = 0;
  int max_replicas = 0;  ///< of the layer, likewise
};

/// Device arrays of one step. Rows from `*num_tokens` on are padding: nothing of them reaches
/// another row, and `out` has zeros there.
struct LayerStep {
  const __nv_bfloat16* x = nullptr;          ///< [max_tokens][hidden]
  const std::int32_t* num_tokens = nullptr;  ///< [1] of this rank, 0 to max_tokens
  __nv_bfloat16* out = nullptr;              ///< [max_tokens][hidden]
  /// Null, or experts to take whatever the gate says: [ranks][max_tokens][topk] under all-gather
  /// dispatch, else [max_tokens][topk].
  const std::int32_t* forced_ids = nullptr;
};

/// One rank's expert-parallel MoE layer on its GPU.
///
///     metro::ep::cuda::CudaLayer layer(shape, options, {.max_tokens = 128}, placement, transport);
///     layer.set_dense(dense);
///     layer.update(placement, weights_of_local_slots, stream);
///     layer.forward({.x = x, .num_tokens = count, .out = out}, stream);  // capturable
///
/// `forward` only enqueues, and all shapes depend on the capacity alone: one CUDA graph serves any
/// number of tokens on any rank, and any placement that `update` brings. Run it once before it is
/// captured: libraries load, and NCCL connects, on first use. Under all-gather dispatch every rank
/// runs the gate on all tokens, so the ranks' GPUs must be of one model. Under all-to-all dispatch
/// policies see the rank's own tokens, numbered from 0, and `optimal`, `metro` and `metro-paper`
/// the activated experts of all ranks. Belongs to the device that is current when it is made.
class CudaLayer {
 public:
  /// Throws Error{kUsage} for options or shapes that the GPU does not take, {kInput} for a
  /// placement of another number of GPUs, {kDevice}. Under moe-TP the placement is not looked at.
  CudaLayer(const LayerShape& shape, const LayerOptions& options, const LayerCapacity& capacity,
            const LayerPlacement& placement, DeviceTransport& transport);
  ~CudaLayer();
  CudaLayer(CudaLayer&&) noexcept;
  CudaLayer& operator=(CudaLayer&&) noexcept;

  void set_dense(const DenseWeights& weights);

  /// The placement, and the weights of this rank's slots in ascending order (under moe-TP: this
  /// rank's slices of all experts), for all later work in `stream`; not to be captured. All ranks
  /// change it between the same two steps. Throws Error{kInput} for what does not fit.
  void update(const LayerPlacement& placement, std::span<const ExpertPointers> local_slots,
              cudaStream_t stream);

  /// All stages in their order.
  void forward(const LayerStep& step, cudaStream_t stream);

  [[nodiscard]] std::span<const Stage> stages() const noexcept;
  /// One stage, on what the stages before it left. The exchange of activity is part of the route.
  void run(Stage stage, const LayerStep& step, cudaStream_t stream);

  /// Of the last step, on the device: [ranks * max_tokens][topk], or [max_tokens][topk] under
  /// all-to-all dispatch.
  [[nodiscard]] const std::int32_t* topk_ids() const noexcept;
  [[nodiscard]] const float* topk_weights() const noexcept;
  [[nodiscard]] std::int32_t* replica_ids() const noexcept;
  /// Rows of the three above.
  [[nodiscard]] int routed_rows() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace metro::ep::cuda
