// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

namespace metro::bench {

/// CUTLASS's grouped matrix product (device/gemm_grouped.h, sm80 tensor cores, scheduled on the
/// device) over activated experts: out[e] = x[e] * transpose(w[e]), bf16, sums in float32. Tiles of
/// 16 or 32 tokens by 128 features, which suit few tokens better than the library's default.
class CutlassGrouped {
 public:
  /// Arrays are of device pointers: x[e] is [counts[e]][depth], w[e] is [features][depth], out[e]
  /// is [counts[e]][features]. Throws Error{kDevice}.
  CutlassGrouped(const std::vector<int>& counts, int features, int depth,
                 const std::vector<const void*>& x, const std::vector<const void*>& w,
                 const std::vector<void*>& out);
  ~CutlassGrouped();
  CutlassGrouped(CutlassGrouped&&) noexcept;
  CutlassGrouped& operator=(CutlassGrouped&&) = delete;

  /// Enqueues one kernel; capturable.
  void run(cudaStream_t stream);

 private:
  struct Product;
  template <int kTokens>
  struct Tiled;
  std::unique_ptr<Product> product_;
};

}  // namespace metro::bench
