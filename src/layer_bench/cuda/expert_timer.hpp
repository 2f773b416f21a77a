// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_bf16.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "cuda/device_memory.hpp"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/slot_table.hpp"
#include "ep/cuda/stream.hpp"
#include "layer_bench/calibrate.hpp"
#include "layer_bench/cuda/random_experts.hpp"
#include "metro/ep/layer_config.hpp"

namespace metro::layer_bench::cuda {

/// The expert kernel on a pool of random experts: in one graph, runs of the stage whose weights lie
/// one behind the other in the pool, so that none finds its own in the L2 cache; less a graph of
/// the permutations alone.
class GpuExpertTimer final : public ExpertTimer {
 public:
  GpuExpertTimer(const ExpertShape& shape, int most, const CalibrateOptions& options,
                 const ep::cuda::Stream& stream);

  [[nodiscard]] int max_activated() const override { return max_activated_; }
  double time_us(std::span<const std::int32_t> tokens_per_expert) override;

 private:
  /// Rows of tokens, made when first asked for so many.
  const __nv_bfloat16* tokens(int rows);

  const ep::cuda::Stream& stream_;
  ep::LayerShape shape_;
  int width_;
  int repeats_;
  int pool_ = 0;
  int max_activated_ = 0;
  std::size_t expert_bytes_;
  std::vector<RandomGpuExperts> experts_;     // one, or none where there is no room
  std::optional<ep::cuda::SlotTable> table_;  // of the whole pool
  metro::cuda::DeviceArray<__nv_bfloat16> x_;
  int rows_ = 0;  // of x_
};

}  // namespace metro::layer_bench::cuda
