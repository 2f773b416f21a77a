// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/blas.hpp"

#include <string>

#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;  // what cuBLAS asks for on Hopper

void check(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorCode::kDevice, std::string(call) + ": " + cublasGetStatusString(status));
}

}  // namespace

Blas::Blas() : workspace_(metro::cuda::make_device_array<std::byte>(kWorkspaceBytes)) {
  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle), "cublasCreate");
  handle_.reset(handle);
}

void Blas::multiply(const __nv_bfloat16* x, const __nv_bfloat16* weights, float* out, int rows,
                    int features, int depth, cudaStream_t stream) {
  multiply(x, weights, out, CUDA_R_32F, rows, features, depth, stream);
}

void Blas::multiply(const __nv_bfloat16* x, const __nv_bfloat16* weights, __nv_bfloat16* out,
                    int rows, int features, int depth, cudaStream_t stream) {
  multiply(x, weights, out, CUDA_R_16BF, rows, features, depth, stream);
}

void Blas::multiply(const __nv_bfloat16* x, const __nv_bfloat16* weights, void* out,
                    cudaDataType_t out_type, int rows, int features, int depth,
                    cudaStream_t stream) {
  if (rows == 0) return;
  check(cublasSetStream(handle_.get(), stream), "cublasSetStream");
  // A change of stream puts the handle back on cuBLAS's own workspace.
  check(cublasSetWorkspace(handle_.get(), workspace_.get(), kWorkspaceBytes), "cublasSetWorkspace");
  const float one = 1;
  const float zero = 0;
  // Row-major out is column-major out^T = weights * x^T.
  check(cublasGemmEx(handle_.get(), CUBLAS_OP_T, CUBLAS_OP_N, features, rows, depth, &one, weights,
                     CUDA_R_16BF, depth, x, CUDA_R_16BF, depth, &zero, out, out_type, features,
                     CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
}

}  // namespace metro::ep::cuda
