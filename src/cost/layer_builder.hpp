// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cost/engine.hpp"
#include "cost/network.hpp"
#include "cost/step_parts.hpp"
#include "metro/gpu.hpp"
#include "metro/model.hpp"
#include "metro/router.hpp"

namespace metro::cost {

/// Makes the parts of one GPU's step from a model's shapes and its deployment.
class LayerBuilder {
 public:
  LayerBuilder(const ModelConfig& model, const GpuSpec& gpu, const Deployment& deployment,
               const EngineConstants& engine, const Calibration* calibration);

  [[nodiscard]] StepParts build() const;

 private:
  void add_attention(StepParts& parts) const;
  void add_grouped_attention(StepParts& parts, double layers, double window) const;
  void add_latent_attention(StepParts& parts, double layers) const;
  void add_recurrent_attention(StepParts& parts, double layers) const;
  void add_feed_forward(StepParts& parts) const;
  void add_exchange(StepParts& parts) const;
  void add_collectives(StepParts& parts) const;
  void add_overhead(StepParts& parts) const;

  /// A matrix product in `count` layers; `exposed` is the share of its time that nothing hides.
  void add_gemm(StepParts& parts, Stage stage, double count, double columns, double inner,
                DataType weights, double exposed = 1, Rows rows = Rows::kRank) const;
  [[nodiscard]] KernelTime kernel(const Roofline& roofline, double flops) const noexcept;

  const ModelConfig& model_;
  const GpuSpec& gpu_;
  const Deployment& deployment_;
  const EngineConstants& engine_;
  Architecture architecture_;
  Network network_;
  const Calibration* calibration_;
  double tp_;
};

/// Microseconds of one layer's `policy` on the GPU: the calibration's, else the table's.
double router_us(const PolicyInfo& policy, const Calibration* calibration) noexcept;

}  // namespace metro::cost
