// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "metro/cost.hpp"

namespace metro::cost {

/// Expected time of the slowest GPU's routed experts where nobody recorded the routing: experts are
/// as popular as a lognormal, tokens choose independently, one copy of every expert lies anywhere.
class ExpectedExperts {
 public:
  /// `sigma` is the lognormal's: 0 for uniform routing, 0.5 to 1 for trained routers.
  ExpectedExperts(const ModelConfig& model, const Deployment& deployment, double sigma);

  /// Experts that some of `tokens` choose, over all GPUs.
  [[nodiscard]] double activated(double tokens) const noexcept;

  /// One layer with `tokens` over all attention ranks.
  [[nodiscard]] double layer_us(const CostModel& cost, double tokens) const noexcept;

 private:
  std::vector<double> chance_;  ///< that a token chooses the expert
  double gpus_;                 ///< that experts are spread over
};

}  // namespace metro::cost
