// SPDX-License-Identifier: Apache-2.0
#include <cutlass/cutlass.h>
#include <cutlass/epilogue/thread/linear_combination.h>
#include <cutlass/gemm/device/gemm_grouped.h>
#include <cutlass/gemm/kernel/default_gemm_grouped.h>

#include <algorithm>
#include <string>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "cutlass_grouped.hpp"
#include "metro/error.hpp"

namespace metro::bench {
namespace {

void check(cutlass::Status status, const char* call) {
  if (status == cutlass::Status::kSuccess) return;
  throw Error(ErrorCode::kDevice,
              std::string(call) + ": " + cutlass::cutlassGetStatusString(status));
}

}  // namespace

struct CutlassGrouped::Product {
  virtual ~Product() = default;
  virtual void run(cudaStream_t stream) = 0;
};

/// Tiles of kTokens rows.
template <int kTokens>
struct CutlassGrouped::Tiled final : CutlassGrouped::Product {
  using Value = cutlass::bfloat16_t;
  using Kernel = typename cutlass::gemm::kernel::DefaultGemmGrouped<
      Value, cutlass::layout::RowMajor, cutlass::ComplexTransform::kNone, 8, Value,
      cutlass::layout::ColumnMajor, cutlass::ComplexTransform::kNone, 8, Value,
      cutlass::layout::RowMajor, float, cutlass::arch::OpClassTensorOp, cutlass::arch::Sm80,
      cutlass::gemm::GemmShape<kTokens, 128, 64>, cutlass::gemm::GemmShape<kTokens, 32, 64>,
      cutlass::gemm::GemmShape<16, 8, 16>,
      cutlass::epilogue::thread::LinearCombination<Value, 8, float, float>,
      cutlass::gemm::threadblock::GemmBatchedIdentityThreadblockSwizzle, 4,
      cutlass::gemm::kernel::GroupScheduleMode::kDeviceOnly>::GemmKernel;
  using Gemm = cutlass::gemm::device::GemmGrouped<Kernel>;

  Tiled(const std::vector<int>& counts, int features, int depth, const std::vector<const void*>& x,
        const std::vector<const void*>& w, const std::vector<void*>& out) {
    std::vector<cutlass::gemm::GemmCoord> sizes;
    std::vector<Value*> pointers[3];
    for (std::size_t e = 0; e < counts.size(); ++e) {
      sizes.emplace_back(counts[e], features, depth);
      pointers[0].push_back(static_cast<Value*>(const_cast<void*>(x[e])));
      pointers[1].push_back(static_cast<Value*>(const_cast<void*>(w[e])));
      pointers[2].push_back(static_cast<Value*>(out[e]));
    }
    sizes_ = cuda::upload(sizes);
    for (int i = 0; i < 3; ++i) {
      pointers_[i] = cuda::upload(pointers[i]);
      // x and w are as wide as the product is deep, out as there are features.
      strides_[i] =
          cuda::upload(std::vector<std::int64_t>(counts.size(), i < 2 ? depth : features));
    }
    const int problems = static_cast<int>(counts.size());
    const int blocks = Gemm::sufficient(sizes.data(), problems);
    if (blocks == 0) throw Error(ErrorCode::kDevice, "CUTLASS: the kernel does not fit the device");
    const typename Gemm::Arguments arguments(
        sizes_.get(), problems, blocks, {1.0F, 0.0F}, pointers_[0].get(), pointers_[1].get(),
        pointers_[2].get(), pointers_[2].get(), strides_[0].get(), strides_[1].get(),
        strides_[2].get(), strides_[2].get(), nullptr);
    workspace_ = cuda::make_device_array<std::byte>(
        std::max<std::size_t>(1, Gemm::get_workspace_size(arguments)));
    check(gemm_.initialize(arguments, workspace_.get()), "GemmGrouped::initialize");
  }

  void run(cudaStream_t stream) override { check(gemm_.run(stream), "GemmGrouped::run"); }

  cuda::DeviceArray<cutlass::gemm::GemmCoord> sizes_;
  cuda::DeviceArray<Value*> pointers_[3];
  cuda::DeviceArray<std::int64_t> strides_[3];
  cuda::DeviceArray<std::byte> workspace_;
  Gemm gemm_;
};

CutlassGrouped::CutlassGrouped(const std::vector<int>& counts, int features, int depth,
                               const std::vector<const void*>& x, const std::vector<const void*>& w,
                               const std::vector<void*>& out) {
  if (std::ranges::max(counts) <= 16) {
    product_ = std::make_unique<Tiled<16>>(counts, features, depth, x, w, out);
  } else {
    product_ = std::make_unique<Tiled<32>>(counts, features, depth, x, w, out);
  }
}
CutlassGrouped::~CutlassGrouped() = default;
CutlassGrouped::CutlassGrouped(CutlassGrouped&&) noexcept = default;

void CutlassGrouped::run(cudaStream_t stream) { product_->run(stream); }

}  // namespace metro::bench
