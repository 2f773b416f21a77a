// SPDX-License-Identifier: Apache-2.0
// The router inside a captured CUDA graph: captured once, replayed with new ids each step.
#include <cuda_runtime_api.h>

#include <cstdint>
#include <iostream>
#include <metro/cuda/router.hpp>
#include <metro/placer.hpp>
#include <vector>

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::cerr << "no GPU here\n";
    return 77;
  }
  const metro::Loads loads{.num_layers = 1, .num_experts = 4, .tokens = {40, 30, 20, 10}};
  const auto placement = metro::place(loads, {.num_replicas = 6, .num_gpus = 2}, "homed");
  metro::cuda::Router router(placement, {.max_tokens = 2, .topk = 2});

  cudaStream_t stream = nullptr;
  std::int32_t* ids = nullptr;  // the ids of a batch; the replicas take their place
  const std::vector<std::int32_t> batch = {0, 1, 0, 2};
  const std::size_t bytes = batch.size() * sizeof(std::int32_t);
  cudaStreamCreate(&stream);
  cudaMalloc(reinterpret_cast<void**>(&ids), bytes);

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t step = nullptr;
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  router.route(/*layer=*/0, ids, /*num_tokens=*/2, ids, stream);
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&step, graph, 0);

  cudaMemcpyAsync(ids, batch.data(), bytes, cudaMemcpyHostToDevice, stream);
  cudaGraphLaunch(step, stream);
  std::vector<std::int32_t> replica_ids(batch.size());
  cudaMemcpyAsync(replica_ids.data(), ids, bytes, cudaMemcpyDeviceToHost, stream);
  cudaStreamSynchronize(stream);
  for (const std::int32_t replica : replica_ids) std::cout << replica << ' ';
  std::cout << '\n';

  cudaGraphExecDestroy(step);
  cudaGraphDestroy(graph);
  cudaFree(ids);
  cudaStreamDestroy(stream);
}
