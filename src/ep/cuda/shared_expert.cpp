// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/shared_expert.hpp"

#include <cstddef>

#include "ep/cuda/dispatch_kernels.hpp"

namespace metro::ep::cuda {
namespace {

std::size_t product(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

}  // namespace

SharedExpert::SharedExpert(int hidden, int intermediate, int max_tokens)
    : hidden_(hidden),
      intermediate_(intermediate),
      gate_up_(
          metro::cuda::make_device_array<__nv_bfloat16>(product(max_tokens, 2 * intermediate))),
      activation_(metro::cuda::make_device_array<__nv_bfloat16>(product(max_tokens, intermediate))),
      out_(metro::cuda::make_device_array<__nv_bfloat16>(product(max_tokens, hidden))) {}

void SharedExpert::run(const __nv_bfloat16* x, int rows, const DenseWeights& weights,
                       cudaStream_t stream) {
  blas_.multiply(x, weights.shared_gate_up, gate_up_.get(), rows, 2 * intermediate_, hidden_,
                 stream);
  launch_silu_product(gate_up_.get(), rows, intermediate_, activation_.get(), stream);
  blas_.multiply(activation_.get(), weights.shared_down, out_.get(), rows, hidden_, intermediate_,
                 stream);
}

}  // namespace metro::ep::cuda
