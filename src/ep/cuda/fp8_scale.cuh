// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_fp8.h>

#include <cstdint>

namespace metro::ep::cuda {

/// What e4m3 values of a row's stretch are multiplied by, so that its largest becomes 448, the
/// largest there is.
class Fp8Scale {
 public:
  /// Of values up to `most`. Where 448 / most is no number, as for most = 0, all become 0.
  __device__ explicit Fp8Scale(float most)
      : value_(most < kLeast ? 0 : most / 448.0F), inverse_(most < kLeast ? 0 : 448.0F / most) {}

  [[nodiscard]] __device__ float value() const { return value_; }
  /// Two values, the first in the low byte. A value that is not a number stays none.
  [[nodiscard]] __device__ std::uint32_t quantize(float2 values) const {
    return __nv_cvt_float2_to_fp8x2({values.x * inverse_, values.y * inverse_}, __NV_SATFINITE,
                                    __NV_E4M3);
  }

 private:
  static constexpr float kLeast = 1e-35F;
  float value_;
  float inverse_;
};

}  // namespace metro::ep::cuda
