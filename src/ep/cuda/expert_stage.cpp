// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/expert_stage.hpp"

#include <string>

#include "ep/cuda/expert_kernels.hpp"
#include "ep/cuda/weight_maps.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

void require(bool good, const char* what, int value, const char* right) {
  if (good) return;
  throw Error(ErrorCode::kUsage, std::string("expert stage: ") + what + " is " +
                                     std::to_string(value) + ", must be " + right);
}

std::size_t product(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

/// Scales of a row of quantised values.
int scale_groups(int values) { return (values + 127) / 128; }

}  // namespace

SlotWeights SlotWeights::from(int first) const noexcept {
  SlotWeights rest = *this;
  rest.gate_up += first;
  rest.down += first;
  if (gate_up_scales != nullptr) rest.gate_up_scales += first;
  if (down_scales != nullptr) rest.down_scales += first;
  if (maps != nullptr) rest.maps += first;
  return rest;
}

ExpertStage::ExpertStage(const ExpertStageSizes& sizes) : sizes_(sizes) {
  require(sizes.hidden > 0 && sizes.hidden % 16 == 0, "hidden", sizes.hidden, "a multiple of 16");
  require(sizes.intermediate > 0 && sizes.intermediate % 16 == 0, "intermediate",
          sizes.intermediate, "a multiple of 16");
  require(sizes.topk > 0, "topk", sizes.topk, "at least 1");
  require(sizes.max_tokens > 0, "max_tokens", sizes.max_tokens, "at least 1");
  require(sizes.num_slots > 0 && sizes.num_slots <= 1024, "num_slots", sizes.num_slots,
          "1 to 1024");
  require(sizes.weights == DataType::kBf16 || sizes.weights == DataType::kFp8, "weights",
          static_cast<int>(sizes.weights), "bf16 or fp8");

  kernel_ = &choose_expert_kernel(sizes);
  const std::size_t rows = product(sizes.max_tokens, sizes.topk);
  max_groups_ =
      max_groups(static_cast<int>(rows), sizes.num_slots, kernel_->cut(sizes).group_tokens);
  const auto groups = static_cast<std::size_t>(max_groups_);
  // Whole cache lines: while one block writes a row, no other may cache a part of it.
  activation_stride_ = (sizes.intermediate + 127) / 128 * 128;
  integers_ = metro::cuda::make_device_array<std::int32_t>(2 * rows + 3 * groups + 2);
  groups_ = metro::cuda::make_device_array<ExpertGroup>(groups);
  outputs_ =
      metro::cuda::make_device_array<__nv_bfloat16>(rows * static_cast<std::size_t>(sizes.hidden));
  const std::size_t activations = rows * static_cast<std::size_t>(activation_stride_);
  if (quantizes()) {
    quantized_tokens_ =
        metro::cuda::make_device_array<std::uint8_t>(product(sizes.max_tokens, sizes.hidden));
    quantized_activations_ = metro::cuda::make_device_array<std::uint8_t>(activations);
    scales_ = metro::cuda::make_device_array<float>(
        product(sizes.max_tokens, scale_groups(sizes.hidden)) +
        rows * static_cast<std::size_t>(scale_groups(sizes.intermediate)));
  } else {
    activations_ = metro::cuda::make_device_array<__nv_bfloat16>(activations);
  }
  plan_.row_to_assignment = integers_.get();
  plan_.assignment_to_row = integers_.get() + rows;
  plan_.tiles_done = integers_.get() + 2 * rows;
  plan_.up_ends = plan_.tiles_done + groups;
  plan_.down_ends = plan_.up_ends + groups;
  plan_.num_groups = plan_.down_ends + groups;
  plan_.feeds_done = reinterpret_cast<unsigned*>(plan_.num_groups + 1);
  plan_.groups = groups_.get();
  prepare_permute();
  launch_ = kernel_->prepare(sizes, max_groups_);
}

const char* ExpertStage::kernel_name() const noexcept { return kernel_->name; }
bool ExpertStage::quantizes() const noexcept { return kernel_->quantizes(sizes_.weights); }

ExpertParams ExpertStage::params() const {
  ExpertParams params{};
  params.geometry = kernel_->cut(sizes_);
  params.plan = plan_;
  params.topk = sizes_.topk;
  params.hidden = sizes_.hidden;
  params.activation_stride = activation_stride_;
  params.activations = activations_.get();
  params.outputs = outputs_.get();
  if (quantizes()) {
    const std::size_t token_scales = product(sizes_.max_tokens, scale_groups(sizes_.hidden));
    params.quantized_tokens = {quantized_tokens_.get(), scales_.get(), sizes_.hidden,
                               sizes_.max_tokens};
    params.quantized_activations = {quantized_activations_.get(), scales_.get() + token_scales,
                                    activation_stride_, sizes_.max_tokens * sizes_.topk};
  }
  return params;
}

void ExpertStage::permute(const std::int32_t* replica_ids, const __nv_bfloat16* tokens,
                          int num_tokens, int first_slot, cudaStream_t stream) {
  require(num_tokens >= 0 && num_tokens <= sizes_.max_tokens, "num_tokens", num_tokens,
          "at most max_tokens");
  const ExpertParams experts = params();
  launch_permute({.replica_ids = replica_ids,
                  .num_assignments = num_tokens * sizes_.topk,
                  .first_slot = first_slot,
                  .num_slots = sizes_.num_slots,
                  .max_groups = max_groups_,
                  .blocks = launch_.blocks,
                  .geometry = experts.geometry,
                  .plan = plan_,
                  .tokens = tokens,
                  .num_tokens = num_tokens,
                  .hidden = sizes_.hidden,
                  .quantized = experts.quantized_tokens},
                 stream);
}

void ExpertStage::run(const __nv_bfloat16* tokens, const SlotWeights& weights,
                      cudaStream_t stream) {
  if (kernel_->needs_maps && weights.maps == nullptr) {
    throw Error(ErrorCode::kUsage,
                "expert stage: the " + std::string(kernel_->name) + " kernel needs weight maps");
  }
  ExpertParams experts = params();
  experts.weights = weights;
  experts.tokens = tokens;
  kernel_->launch(experts, launch_, stream);
}

void ExpertStage::combine(const float* topk_weights, int num_tokens, __nv_bfloat16* out,
                          cudaStream_t stream) {
  require(num_tokens >= 0 && num_tokens <= sizes_.max_tokens, "num_tokens", num_tokens,
          "at most max_tokens");
  launch_combine({.assignment_to_row = plan_.assignment_to_row,
                  .outputs = outputs_.get(),
                  .topk_weights = topk_weights,
                  .out = out,
                  .num_tokens = num_tokens,
                  .topk = sizes_.topk,
                  .hidden = sizes_.hidden},
                 stream);
}

}  // namespace metro::ep::cuda
