// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/gate.hpp"

#include <fmt/format.h>

#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

void check_limit(const char* what, int value, int most) {
  if (value >= 1 && value <= most) return;
  throw Error(ErrorCode::kUsage,
              fmt::format("{} is {}, the gate on the GPU takes 1..{}", what, value, most));
}

}  // namespace

Gate::Gate(const LayerShape& shape, int max_rows) : shape_(shape) {
  check_limit("num_experts", shape.num_experts, kMaxGateExperts);
  check_limit("topk", shape.topk, kMaxGateTopk);
  check_limit("num_groups", shape.gate.num_groups, kMaxGateGroups);
  logits_ = metro::cuda::make_device_array<float>(static_cast<std::size_t>(max_rows) *
                                                  static_cast<std::size_t>(shape.num_experts));
}

void Gate::choose(const __nv_bfloat16* x, const __nv_bfloat16* matrix, const PaddedRows& rows,
                  const std::int32_t* forced_ids, std::int32_t* ids, float* weights,
                  cudaStream_t stream) {
  blas_.multiply(x, matrix, logits_.get(), rows.size(), shape_.num_experts, shape_.hidden, stream);
  launch_topk({.gate = shape_.gate,
               .num_experts = shape_.num_experts,
               .topk = shape_.topk,
               .rows = rows,
               .logits = logits_.get(),
               .forced_ids = forced_ids,
               .ids = ids,
               .weights = weights},
              stream);
}

}  // namespace metro::ep::cuda
