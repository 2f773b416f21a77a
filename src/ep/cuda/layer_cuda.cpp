// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/layer_cuda.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "cuda/device_memory.hpp"
#include "ep/cuda/dispatch_kernels.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/gate.hpp"
#include "ep/cuda/random_experts.hpp"
#include "ep/cuda/shared_expert.hpp"
#include "ep/cuda/slot_table.hpp"
#include "ep/cuda/transport_exchange.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"

namespace metro::ep::gpu {
namespace {

using Bf16 = __nv_bfloat16;

constexpr Stage kAllGatherStages[] = {Stage::kDispatch, Stage::kGate,    Stage::kRoute,
                                      Stage::kShared,   Stage::kPermute, Stage::kExperts,
                                      Stage::kCombine};
constexpr Stage kAllToAllStages[] = {Stage::kGate,   Stage::kRoute,   Stage::kDispatch,
                                     Stage::kShared, Stage::kPermute, Stage::kExperts,
                                     Stage::kCombine};

std::size_t product(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

bool exchanges_activity(std::string_view policy) {
  return policy == "optimal" || policy == "metro" || policy == "metro-paper";
}

/// The capacity with its blanks filled in; checks what can be checked before anything is made.
LayerCapacity completed(LayerCapacity capacity, const LayerShape& shape,
                        const LayerOptions& options, const LayerPlacement& placement) {
  const auto usage = [](const std::string& message) { throw Error(ErrorCode::kUsage, message); };
  shape.validate();
  if (capacity.max_tokens < 1) {
    usage(fmt::format("max_tokens is {}, must be at least 1", capacity.max_tokens));
  }
  if (options.sharding == ExpertSharding::kTensorSharded) {
    if (options.dispatch != Dispatch::kAllGather) {
      usage("tensor-sharded experts need every token on every GPU: all-gather dispatch");
    }
    return {capacity.max_tokens, shape.num_experts, 0};
  }
  placement.validate();
  if (capacity.max_local_slots == 0) {
    capacity.max_local_slots = std::max(1, std::ranges::max(slots_per_gpu(placement)));
  }
  if (capacity.max_replicas == 0) capacity.max_replicas = placement.num_replicas();
  return capacity;
}

}  // namespace

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
  [[nodiscard]] std::size_t rank_values() const {  // of one rank's rows
    return product(capacity_.max_tokens, shape_.hidden);
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
  std::optional<cuda::Router> router_;
  std::optional<TransportExchange> exchange_;
  std::optional<SharedExpert> shared_;

  cuda::DeviceArray<std::int32_t> counts_;       // [ranks] tokens
  cuda::DeviceArray<std::int32_t> topk_ids_;     // [routed rows][topk]
  cuda::DeviceArray<float> topk_weights_;        // [routed rows][topk]
  cuda::DeviceArray<std::int32_t> replica_ids_;  // [routed rows][topk]
  cuda::DeviceArray<Bf16> x_;                    // [padded rows][hidden] what the experts get,
  cuda::DeviceArray<std::int32_t> local_ids_;    // [padded rows][topk] for which local slots,
  cuda::DeviceArray<float> local_weights_;       // [padded rows][topk] (all-to-all dispatch)
  cuda::DeviceArray<Bf16> partials_;             // [padded rows][hidden] and what comes of it
  cuda::DeviceArray<Bf16> returned_;             // [parts][max tokens][hidden]

  cuda::DeviceArray<std::int32_t> rows_;        // all-to-all dispatch from here on: see PackParams
  cuda::DeviceArray<Bf16> packed_x_;            // [padded rows][hidden]
  cuda::DeviceArray<std::int32_t> packed_ids_;  // [padded rows][topk]
  cuda::DeviceArray<float> packed_weights_;     // [padded rows][topk]
};

CudaLayer::Impl::Impl(const LayerShape& shape, const LayerOptions& options,
                      const LayerCapacity& capacity, const LayerPlacement& placement,
                      DeviceTransport& transport)
    : shape_(shape),
      options_(options),
      transport_(transport),
      capacity_(completed(capacity, shape, options, placement)),
      tensor_sharded_(options.sharding == ExpertSharding::kTensorSharded),
      all_gather_(options.dispatch == Dispatch::kAllGather),
      reduce_scatter_(all_gather_ && options.combine == Combine::kReduceScatter),
      padded_rows_(transport.size() * capacity_.max_tokens),
      routed_rows_(all_gather_ ? padded_rows_ : capacity_.max_tokens),
      gate_(shape, routed_rows_),
      experts_({.hidden = shape.hidden,
                .intermediate = expert_width(),
                .topk = shape.topk,
                .max_tokens = padded_rows_,
                .num_slots = capacity_.max_local_slots,
                .weights = shape.weights}),
      slots_(capacity_.max_local_slots, capacity_.max_replicas) {
  if (!tensor_sharded_) {
    check(placement);
    const int range = placement.num_replicas() / placement.num_gpus;
    if (is_contiguous(placement) && range == capacity_.max_local_slots) local_range_ = range;
    router_.emplace(Placement{shape.num_experts, placement.num_gpus, {placement}},
                    cuda::RouterOptions{.policy = options_.policy,
                                        .max_tokens = routed_rows_,
                                        .topk = shape.topk,
                                        .max_replicas = capacity_.max_replicas,
                                        .programmatic_launch = true});
    if (!all_gather_ && exchanges_activity(options_.policy)) exchange_.emplace(transport);
  }
  if (shape.shared_intermediate > 0) {
    shared_.emplace(shape.hidden, shape.shared_intermediate, capacity_.max_tokens);
  }
  const std::size_t routed_ids = product(routed_rows_, shape.topk);
  const std::size_t padded_ids = product(padded_rows_, shape.topk);
  const std::size_t values = product(padded_rows_, shape.hidden);
  counts_ = cuda::make_device_array<std::int32_t>(static_cast<std::size_t>(transport.size()));
  topk_ids_ = cuda::make_device_array<std::int32_t>(routed_ids);
  topk_weights_ = cuda::make_device_array<float>(routed_ids);
  replica_ids_ = cuda::make_device_array<std::int32_t>(routed_ids);
  x_ = cuda::make_device_array<Bf16>(values);
  local_ids_ = cuda::make_device_array<std::int32_t>(padded_ids);
  partials_ = cuda::make_device_array<Bf16>(values);
  returned_ = cuda::make_device_array<Bf16>(reduce_scatter_ ? rank_values() : values);
  if (all_gather_) return;
  local_weights_ = cuda::make_device_array<float>(padded_ids);
  rows_ = cuda::make_device_array<std::int32_t>(2 * product(padded_rows_, 1));
  packed_x_ = cuda::make_device_array<Bf16>(values);
  packed_ids_ = cuda::make_device_array<std::int32_t>(padded_ids);
  packed_weights_ = cuda::make_device_array<float>(padded_ids);
}

void CudaLayer::Impl::check(const LayerPlacement& placement) const {
  const auto fail = [](const std::string& message) { throw Error(ErrorCode::kInput, message); };
  placement.validate();
  if (placement.num_gpus != transport_.size() || placement.num_experts != shape_.num_experts) {
    fail(fmt::format("placement has {} experts on {} GPUs, the layer has {} on {}",
                     placement.num_experts, placement.num_gpus, shape_.num_experts,
                     transport_.size()));
  }
  const int most = std::ranges::max(slots_per_gpu(placement));
  if (most > capacity_.max_local_slots || placement.num_replicas() > capacity_.max_replicas) {
    fail(fmt::format("placement has {} replicas, {} on one GPU, the layer has room for {} and {}",
                     placement.num_replicas(), most, capacity_.max_replicas,
                     capacity_.max_local_slots));
  }
  if (local_range_ > 0 && (!is_contiguous(placement) || most != local_range_)) {
    fail(fmt::format("placement: this layer was made for {} contiguous slots on every GPU",
                     local_range_));
  }
}

void CudaLayer::Impl::update(const LayerPlacement& placement,
                             std::span<const ExpertPointers> local_slots, cudaStream_t stream) {
  auto needed = static_cast<std::size_t>(shape_.num_experts);
  std::vector<SlotPlace> places;
  if (!tensor_sharded_) {
    check(placement);
    const auto rank = static_cast<std::size_t>(transport_.rank());
    needed = static_cast<std::size_t>(slots_per_gpu(placement)[rank]);
    places = slot_places(placement);
  }
  if (local_slots.size() != needed) {
    throw Error(ErrorCode::kInput, fmt::format("weights of {} slots are given, rank {} has {}",
                                               local_slots.size(), transport_.rank(), needed));
  }
  if (router_) router_->update(0, placement, stream);
  slots_.update(places, local_slots, stream);
}

void CudaLayer::Impl::run(Stage stage, const LayerStep& step, cudaStream_t stream) {
  switch (stage) {
    case Stage::kDispatch:
      return dispatch(step, stream);
    case Stage::kGate:
      return choose(step, stream);
    case Stage::kExchange:  // inside the router
      return;
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
  const std::size_t id_bytes = product(capacity_.max_tokens, shape_.topk) * sizeof(std::int32_t);
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
  if (!router_) return;  // tensor-sharded
  cuda::RouteExtras extras;
  if (!all_gather_) extras.num_valid_tokens = step.num_tokens;
  if (exchange_) extras.exchange = &*exchange_;
  router_->route(0, topk_ids_.get(), routed_rows_, replica_ids_.get(), stream, extras);
}

void CudaLayer::Impl::permute(cudaStream_t stream) {
  if (tensor_sharded_) return experts_.permute(topk_ids_.get(), padded_rows_, 0, stream);
  if (all_gather_ && local_range_ > 0) {
    return experts_.permute(replica_ids_.get(), padded_rows_, transport_.rank() * local_range_,
                            stream);
  }
  if (all_gather_) {
    launch_localise(replica_ids_.get(), padded_rows_ * shape_.topk, slots_.places(),
                    transport_.rank(), local_ids_.get(), stream);
  }
  experts_.permute(local_ids_.get(), padded_rows_, 0, stream);
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

CudaLayer::CudaLayer(const LayerShape& shape, const LayerOptions& options,
                     const LayerCapacity& capacity, const LayerPlacement& placement,
                     DeviceTransport& transport)
    : impl_(std::make_unique<Impl>(shape, options, capacity, placement, transport)) {}
CudaLayer::~CudaLayer() = default;
CudaLayer::CudaLayer(CudaLayer&&) noexcept = default;
CudaLayer& CudaLayer::operator=(CudaLayer&&) noexcept = default;

void CudaLayer::set_dense(const DenseWeights& weights) { impl_->dense_ = weights; }

void CudaLayer::update(const LayerPlacement& placement, std::span<const ExpertPointers> local_slots,
                       cudaStream_t stream) {
  impl_->update(placement, local_slots, stream);
}

void CudaLayer::forward(const LayerStep& step, cudaStream_t stream) {
  for (const Stage stage : stages()) impl_->run(stage, step, stream);
}

void CudaLayer::run(Stage stage, const LayerStep& step, cudaStream_t stream) {
  impl_->run(stage, step, stream);
}

std::span<const Stage> CudaLayer::stages() const noexcept {
  return impl_->all_gather_ ? std::span(kAllGatherStages) : std::span(kAllToAllStages);
}

const std::int32_t* CudaLayer::topk_ids() const noexcept { return impl_->topk_ids_.get(); }
const float* CudaLayer::topk_weights() const noexcept { return impl_->topk_weights_.get(); }
std::int32_t* CudaLayer::replica_ids() const noexcept { return impl_->replica_ids_.get(); }
int CudaLayer::routed_rows() const noexcept { return impl_->routed_rows_; }

}  // namespace metro::ep::gpu
