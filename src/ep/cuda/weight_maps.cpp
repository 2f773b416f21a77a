// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/weight_maps.hpp"

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

#include "cuda/check.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

constexpr int kSlabBytes = 128;
constexpr cuuint32_t kBlockRows = 64;

using Encode = decltype(&cuTensorMapEncodeTiled);

/// From the driver that is there: the program is not linked to one. Null: too old.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult result{};
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &result);
  if (error != cudaSuccess || result != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<Encode>(function);
}

Encode encode_function() {
  static const Encode function = find_encode();
  return function;
}

/// Sizes in values, the innermost first; strides in bytes, from the second on; boxes in values.
template <std::size_t kDims>
CUtensorMap make_map(DataType type, const void* matrix, std::array<cuuint64_t, kDims> sizes,
                     std::array<cuuint64_t, kDims - 1> strides, std::array<cuuint32_t, kDims> box) {
  CUtensorMap map{};
  std::array<cuuint32_t, kDims> steps;
  steps.fill(1);
  const CUresult result = encode_function()(
      &map,
      type == DataType::kFp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
      kDims, const_cast<void*>(matrix), sizes.data(), strides.data(), box.data(), steps.data(),
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw Error(ErrorCode::kDevice,
                "cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)));
  }
  return map;
}

}  // namespace

bool has_weight_maps() {
  int device = 0;
  int major = 0;
  METRO_CUDA_CHECK(cudaGetDevice(&device));
  METRO_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  return major == 9 && encode_function() != nullptr;
}

WeightMaps make_weight_maps(const WeightShape& shape, const ExpertPointers& expert) {
  const unsigned value_bytes = shape.weights == DataType::kFp8 ? 1 : 2;
  const cuuint32_t slab = kSlabBytes / value_bytes;
  const auto hidden = static_cast<cuuint64_t>(shape.hidden);
  const auto width = static_cast<cuuint64_t>(shape.intermediate);
  const cuuint64_t up_row = hidden * value_bytes;
  const cuuint64_t down_row = width * value_bytes;
  return {
      .gate_up = make_map<4>(shape.weights, expert.gate_up, {hidden, 8, 2, width / 8},
                             {up_row, width * up_row, 8 * up_row}, {slab, 8, 2, kBlockRows / 16}),
      .down =
          make_map<2>(shape.weights, expert.down, {width, hidden}, {down_row}, {slab, kBlockRows})};
}

}  // namespace metro::ep::cuda
