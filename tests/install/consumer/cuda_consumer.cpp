// SPDX-License-Identifier: Apache-2.0
// Links the installed CUDA library; needs no GPU, as options are checked first.
#include <iostream>
#include <metro/cuda/router.hpp>
#include <metro/error.hpp>
#include <metro/placer.hpp>

int main() {
  const metro::Loads loads{.num_layers = 1, .num_experts = 4, .tokens = {4, 3, 2, 1}};
  const auto placement = metro::place(loads, {.num_replicas = 6, .num_gpus = 2}, "homed");
  try {
    const metro::cuda::Router router(placement, {.topk = 0});
  } catch (const metro::Error& error) {
    return error.code() == metro::ErrorCode::kUsage ? 0 : 1;
  }
  std::cerr << "a top-k of 0 went unnoticed\n";
  return 1;
}
