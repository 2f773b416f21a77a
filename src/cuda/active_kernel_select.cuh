// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cuda/activation_warp.hpp"
#include "cuda/active_kernel.cuh"
#include "cuda/greedy_warp.hpp"

/// Which instance of active_kernel_of serves a router. Each source that includes this compiles the
/// instances of one `kEngine`.
namespace metro::cuda {

template <bool kEngine, template <class, int, int> class SolverOf, int kWords, int kGpuSets>
Kernel with_vectors(int vectors) {
  const void* one =
      reinterpret_cast<const void*>(&active_kernel_of<SolverOf, kWords, kGpuSets, 1, kEngine>);
  const void* four =
      reinterpret_cast<const void*>(&active_kernel_of<SolverOf, kWords, kGpuSets, 4, kEngine>);
  return {vectors == 1 ? one : four, kActiveThreads<kWords, kGpuSets>, 0};
}

template <bool kEngine, template <class, int, int> class SolverOf>
Kernel with_words(const TableLayout& layout, int vectors) {
  const bool one_set = layout.num_gpus <= 32;
  switch (layout.mask_words) {
    case 8:
      return one_set ? with_vectors<kEngine, SolverOf, 8, 1>(vectors)
                     : with_vectors<kEngine, SolverOf, 8, 2>(vectors);
    case 16:
      return one_set ? with_vectors<kEngine, SolverOf, 16, 1>(vectors)
                     : with_vectors<kEngine, SolverOf, 16, 2>(vectors);
    default:
      return one_set ? with_vectors<kEngine, SolverOf, 32, 1>(vectors)
                     : with_vectors<kEngine, SolverOf, 32, 2>(vectors);
  }
}

template <bool kEngine>
Kernel select_active_kernel(DevicePolicy policy, const TableLayout& layout, int vectors) {
  Kernel kernel = policy == DevicePolicy::kOptimal
                      ? with_words<kEngine, ActivationWarp>(layout, vectors)
                      : with_words<kEngine, GreedyWarp>(layout, vectors);
  const int scratch_words = (layout.num_gpus + 1) * layout.mask_words;
  kernel.shared_bytes = 4 * (layout.staged_words + 16 * layout.mask_words + scratch_words);
  return kernel;
}

}  // namespace metro::cuda
