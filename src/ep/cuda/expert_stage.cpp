// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/expert_stage.hpp"

#include <string>

#include "ep/cuda/expert_kernels.hpp"
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

}  // namespace

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

  const std::size_t rows = product(sizes.max_tokens, sizes.topk);
  max_groups_ = max_groups(static_cast<int>(rows), sizes.num_slots);
  const auto groups = static_cast<std::size_t>(max_groups_);
  // Whole cache lines: while one block writes a row, no other may cache a part of it.
  activation_stride_ = (sizes.intermediate + 63) / 64 * 64;
  integers_ = metro::cuda::make_device_array<std::int32_t>(2 * rows + 3 * groups + 2);
  groups_ = metro::cuda::make_device_array<ExpertGroup>(groups);
  activations_ = metro::cuda::make_device_array<__nv_bfloat16>(
      rows * static_cast<std::size_t>(activation_stride_));
  outputs_ =
      metro::cuda::make_device_array<__nv_bfloat16>(rows * static_cast<std::size_t>(sizes.hidden));
  plan_.row_to_assignment = integers_.get();
  plan_.assignment_to_row = integers_.get() + rows;
  plan_.tiles_done = integers_.get() + 2 * rows;
  plan_.up_ends = plan_.tiles_done + groups;
  plan_.down_ends = plan_.up_ends + groups;
  plan_.num_groups = plan_.down_ends + groups;
  plan_.feeds_done = reinterpret_cast<unsigned*>(plan_.num_groups + 1);
  plan_.groups = groups_.get();
  prepare_permute();
  launch_ = prepare_experts(sizes.weights, max_groups_, sizes.shared_limit);
}

void ExpertStage::permute(const std::int32_t* replica_ids, int num_tokens, int first_slot,
                          cudaStream_t stream) {
  require(num_tokens >= 0 && num_tokens <= sizes_.max_tokens, "num_tokens", num_tokens,
          "at most max_tokens");
  const ExpertParams tiles = cut_tiles(sizes_);
  launch_permute({.replica_ids = replica_ids,
                  .num_assignments = num_tokens * sizes_.topk,
                  .first_slot = first_slot,
                  .num_slots = sizes_.num_slots,
                  .max_groups = max_groups_,
                  .blocks = launch_.blocks,
                  .up = tiles.up,
                  .down = tiles.down,
                  .plan = plan_},
                 stream);
}

void ExpertStage::run(const __nv_bfloat16* tokens, const SlotWeights& weights,
                      cudaStream_t stream) {
  ExpertParams params = cut_tiles(sizes_);
  params.weights = weights;
  params.plan = plan_;
  params.activation_stride = activation_stride_;
  params.tokens = tokens;
  params.activations = activations_.get();
  params.outputs = outputs_.get();
  launch_experts(params, launch_, stream);
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
