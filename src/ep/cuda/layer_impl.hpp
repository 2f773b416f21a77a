// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>

#include "cuda/device_memory.hpp"
#include "ep/cuda/expert_slice.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/gate.hpp"
#include "ep/cuda/layer_cuda.hpp"
#include "ep/cuda/shared_expert.hpp"
#include "ep/cuda/slot_table.hpp"
#include "ep/cuda/transport_exchange.hpp"
#include "metro/cuda/router.hpp"

namespace metro::ep::cuda {

/// What a CudaLayer owns. layer_cuda.cpp makes and updates it, layer_stages.cpp runs it.
struct CudaLayer::Impl {
  Impl(const LayerShape& shape, const LayerOptions& options, const LayerCapacity& capacity,
       const LayerPlacement& placement, DeviceTransport& transport);

  void check(const LayerPlacement& placement) const;
  void update(const LayerPlacement& placement, std::span<const ExpertPointers> local_slots,
              cudaStream_t stream);
  void run(Stage stage, const LayerStep& step, cudaStream_t stream);
  void dispatch(const LayerStep& step, cudaStream_t stream);
  void choose(const LayerStep& step, cudaStream_t stream);
  void route(const LayerStep& step, cudaStream_t stream);
  void permute(cudaStream_t stream);
  void combine(const LayerStep& step, cudaStream_t stream);

  [[nodiscard]] int expert_width() const {
    return (tensor_sharded_ ? expert_slice(shape_, transport_.rank(), transport_.size())
                            : whole_expert(shape_))
        .width;
  }
  /// a * b array entries.
  [[nodiscard]] static std::size_t count(int a, int b) {
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
  }
  [[nodiscard]] std::size_t rank_values() const {  // of one rank's rows
    return count(capacity_.max_tokens, shape_.hidden);
  }
  [[nodiscard]] std::int32_t* source_row() const { return rows_.get(); }
  [[nodiscard]] std::int32_t* packed_row() const { return rows_.get() + padded_rows_; }

  LayerShape shape_;
  LayerOptions options_;
  DeviceTransport& transport_;
  LayerCapacity capacity_;
  bool tensor_sharded_;
  bool all_gather_;
  bool reduce_scatter_;
  int local_range_ = 0;  // slots a GPU where they are contiguous: kernels can tell ours; else 0
  int padded_rows_;      // of all ranks
  int routed_rows_;      // that this rank runs the gate on
  DenseWeights dense_;

  Gate gate_;
  ExpertStage experts_;
  SlotTable slots_;
  std::optional<metro::cuda::Router> router_;
  std::optional<TransportExchange> exchange_;
  std::optional<SharedExpert> shared_;

  metro::cuda::DeviceArray<std::int32_t> counts_;       // [ranks] tokens
  metro::cuda::DeviceArray<std::int32_t> topk_ids_;     // [routed rows][topk]
  metro::cuda::DeviceArray<float> topk_weights_;        // [routed rows][topk]
  metro::cuda::DeviceArray<std::int32_t> replica_ids_;  // [routed rows][topk]
  metro::cuda::DeviceArray<__nv_bfloat16> x_;         // [padded rows][hidden] what the experts get,
  metro::cuda::DeviceArray<std::int32_t> local_ids_;  // [padded rows][topk] for which local slots,
  metro::cuda::DeviceArray<float> local_weights_;     // [padded rows][topk] (all-to-all dispatch)
  metro::cuda::DeviceArray<__nv_bfloat16> partials_;  // [padded rows][hidden] and what comes of it
  metro::cuda::DeviceArray<__nv_bfloat16> returned_;  // [parts][max tokens][hidden]

  metro::cuda::DeviceArray<std::int32_t> rows_;  // all-to-all dispatch from here on: see PackParams
  metro::cuda::DeviceArray<__nv_bfloat16> packed_x_;   // [padded rows][hidden]
  metro::cuda::DeviceArray<std::int32_t> packed_ids_;  // [padded rows][topk]
  metro::cuda::DeviceArray<float> packed_weights_;     // [padded rows][topk]
};

}  // namespace metro::ep::cuda
