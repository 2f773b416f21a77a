// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

namespace metro {

/// Sampling weights under which the experts of a layer get loads proportional to given ones.
///
/// Drawing topk distinct experts in turn by weight w includes an expert with a probability close
/// to 1 - exp(-w t), with one t for all experts that makes them add up to topk (Rosen 1972). A
/// normal tilt of log w (topics, drift, whims) bends this further, the more the hotter the expert
/// is; so popular experts need more weight than their share. One instance holds the curve for one
/// spread of the tilt.
class PopularityCurve {
 public:
  explicit PopularityCurve(double tilt_spread);

  /// `loads` > 0 in any unit; of topk, no expert can get more than nearly one a token.
  [[nodiscard]] std::vector<double> weights(std::span<const double> loads, int topk) const;

 private:
  [[nodiscard]] double weight_of(double inclusion) const;

  std::vector<double> inclusion_;  // at log weights kLowest, kLowest + kStep, ...; ascending
};

}  // namespace metro
