// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/layer_cuda.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "ep/cuda/layer_impl.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"

namespace metro::ep::cuda {
namespace {

using Bf16 = __nv_bfloat16;

constexpr Stage kAllGatherStages[] = {Stage::kDispatch, Stage::kGate,    Stage::kRoute,
                                      Stage::kShared,   Stage::kPermute, Stage::kExperts,
                                      Stage::kCombine};
constexpr Stage kAllToAllStages[] = {Stage::kGate,   Stage::kRoute,   Stage::kDispatch,
                                     Stage::kShared, Stage::kPermute, Stage::kExperts,
                                     Stage::kCombine};

bool exchanges_activity(std::string_view policy) {
  return require_policy(policy).needs == PolicyNeeds::kBitmap;
}

/// The capacity with its blanks filled in; checks what can be checked before anything is made.
LayerCapacity completed(LayerCapacity capacity, const LayerShape& shape,
                        const LayerOptions& options, const LayerPlacement& placement) {
  const auto usage = [](const std::string& message) { throw Error(ErrorCode::kUsage, message); };
  shape.validate();
  if (capacity.max_tokens < 1) {
    usage(fmt::format("max_tokens is {}, must be at least 1", capacity.max_tokens));
  }
  if (options.shards != 1) {
    usage(fmt::format("shards is {}, must be 1: sharded groups run on CPU ranks", options.shards));
  }
  if (options.sharding == ExpertSharding::kTensorSharded) {
    if (options.dispatch != Dispatch::kAllGather) {
      usage("moe-TP needs every token on every GPU: all-gather dispatch");
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
      slots_({shape_.hidden, expert_width(), shape_.weights}, capacity_.max_local_slots,
             capacity_.max_replicas) {
  if (!tensor_sharded_) {
    check(placement);
    const int range = placement.num_replicas() / placement.num_gpus;
    if (is_contiguous(placement) && range == capacity_.max_local_slots) local_range_ = range;
    router_.emplace(Placement{shape.num_experts, placement.num_gpus, {placement}},
                    metro::cuda::RouterOptions{.policy = options_.policy,
                                               .max_tokens = routed_rows_,
                                               .topk = shape.topk,
                                               .max_replicas = capacity_.max_replicas,
                                               .programmatic_launch = true});
    if (!all_gather_ && exchanges_activity(options_.policy)) exchange_.emplace(transport);
  }
  if (shape.shared_intermediate > 0) {
    shared_.emplace(shape.hidden, shape.shared_intermediate, capacity_.max_tokens);
  }
  const std::size_t routed_ids = count(routed_rows_, shape.topk);
  const std::size_t padded_ids = count(padded_rows_, shape.topk);
  const std::size_t values = count(padded_rows_, shape.hidden);
  counts_ =
      metro::cuda::make_device_array<std::int32_t>(static_cast<std::size_t>(transport.size()));
  topk_ids_ = metro::cuda::make_device_array<std::int32_t>(routed_ids);
  topk_weights_ = metro::cuda::make_device_array<float>(routed_ids);
  replica_ids_ = metro::cuda::make_device_array<std::int32_t>(routed_ids);
  x_ = metro::cuda::make_device_array<Bf16>(values);
  local_ids_ = metro::cuda::make_device_array<std::int32_t>(padded_ids);
  partials_ = metro::cuda::make_device_array<Bf16>(values);
  returned_ = metro::cuda::make_device_array<Bf16>(reduce_scatter_ ? rank_values() : values);
  if (all_gather_) return;
  local_weights_ = metro::cuda::make_device_array<float>(padded_ids);
  rows_ = metro::cuda::make_device_array<std::int32_t>(2 * count(padded_rows_, 1));
  packed_x_ = metro::cuda::make_device_array<Bf16>(values);
  packed_ids_ = metro::cuda::make_device_array<std::int32_t>(padded_ids);
  packed_weights_ = metro::cuda::make_device_array<float>(padded_ids);
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

}  // namespace metro::ep::cuda
