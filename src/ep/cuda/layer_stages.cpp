// SPDX-License-Identifier: Apache-2.0
// The stages of a CudaLayer, each enqueued on what those before it left.
#include "ep/cuda/dispatch_kernels.hpp"
#include "ep/cuda/layer_impl.hpp"

namespace metro::ep::cuda {

using Bf16 = __nv_bfloat16;

void CudaLayer::Impl::run(Stage stage, const LayerStep& step, cudaStream_t stream) {
  switch (stage) {
    case Stage::kDispatch:
      return dispatch(step, stream);
    case Stage::kGate:
      return choose(step, stream);
    case Stage::kRoute:
      return route(step, stream);
    case Stage::kShared:
      if (shared_) shared_->run(step.x, capacity_.max_tokens, dense_, stream);
      return;
    case Stage::kPermute:
      return permute(stream);
    case Stage::kExperts:
      return experts_.run(x_.get(), slots_.weights(), stream);
    case Stage::kCombine:
      return combine(step, stream);
    default:  // the exchange is inside the router, and the rest are no stages of a layer
      return;
  }
}

void CudaLayer::Impl::dispatch(const LayerStep& step, cudaStream_t stream) {
  const std::size_t x_bytes = rank_values() * sizeof(Bf16);
  if (all_gather_) {
    const Transfer transfers[] = {{step.x, x_.get(), x_bytes},
                                  {step.num_tokens, counts_.get(), sizeof(std::int32_t)}};
    return transport_.all_gather(transfers, stream);
  }
  launch_pack({.x = step.x,
               .num_tokens = step.num_tokens,
               .replica_ids = replica_ids_.get(),
               .weights = topk_weights_.get(),
               .places = slots_.places(),
               .num_gpus = transport_.size(),
               .max_tokens = capacity_.max_tokens,
               .topk = shape_.topk,
               .hidden = shape_.hidden,
               .source_row = source_row(),
               .packed_row = packed_row(),
               .packed_x = packed_x_.get(),
               .packed_ids = packed_ids_.get(),
               .packed_weights = packed_weights_.get()},
              stream);
  const std::size_t id_bytes = count(capacity_.max_tokens, shape_.topk) * sizeof(std::int32_t);
  const Transfer transfers[] = {{packed_x_.get(), x_.get(), x_bytes},
                                {packed_ids_.get(), local_ids_.get(), id_bytes},
                                {packed_weights_.get(), local_weights_.get(), id_bytes}};
  transport_.all_to_all(transfers, stream);
}

void CudaLayer::Impl::choose(const LayerStep& step, cudaStream_t stream) {
  const Bf16* x = all_gather_ ? x_.get() : step.x;
  const PaddedRows rows = all_gather_
                              ? PaddedRows{counts_.get(), transport_.size(), capacity_.max_tokens}
                              : PaddedRows{step.num_tokens, 1, capacity_.max_tokens};
  gate_.choose(x, dense_.gate, rows, step.forced_ids, topk_ids_.get(), topk_weights_.get(), stream);
}

void CudaLayer::Impl::route(const LayerStep& step, cudaStream_t stream) {
  if (!router_) return;  // moe-TP
  metro::cuda::RouteExtras extras;
  if (!all_gather_) extras.num_valid_tokens = step.num_tokens;
  if (exchange_) extras.exchange = &*exchange_;
  router_->route(0, topk_ids_.get(), routed_rows_, replica_ids_.get(), stream, extras);
}

void CudaLayer::Impl::permute(cudaStream_t stream) {
  if (tensor_sharded_) return experts_.permute(topk_ids_.get(), x_.get(), padded_rows_, 0, stream);
  if (all_gather_ && local_range_ > 0) {
    return experts_.permute(replica_ids_.get(), x_.get(), padded_rows_,
                            transport_.rank() * local_range_, stream);
  }
  if (all_gather_) {
    launch_localise(replica_ids_.get(), padded_rows_ * shape_.topk, slots_.places(),
                    transport_.rank(), local_ids_.get(), stream);
  }
  experts_.permute(local_ids_.get(), x_.get(), padded_rows_, 0, stream);
}

void CudaLayer::Impl::combine(const LayerStep& step, cudaStream_t stream) {
  const float* weights = all_gather_ ? topk_weights_.get() : local_weights_.get();
  experts_.combine(weights, padded_rows_, partials_.get(), stream);
  if (reduce_scatter_ && !shared_) {  // padding rows are sums of zeros
    return transport_.reduce_scatter(partials_.get(), step.out, rank_values(), stream);
  }
  if (reduce_scatter_) {
    transport_.reduce_scatter(partials_.get(), returned_.get(), rank_values(), stream);
  } else {
    const Transfer transfer{partials_.get(), returned_.get(), rank_values() * sizeof(Bf16)};
    transport_.all_to_all({&transfer, 1}, stream);
  }
  launch_sum({.partials = returned_.get(),
              .partial_row = all_gather_ ? nullptr : packed_row(),
              .extra = shared_ ? shared_->out() : nullptr,
              .num_tokens = step.num_tokens,
              .parts = reduce_scatter_ ? 1 : transport_.size(),
              .max_tokens = capacity_.max_tokens,
              .hidden = shape_.hidden,
              .out = step.out},
             stream);
}

}  // namespace metro::ep::cuda
