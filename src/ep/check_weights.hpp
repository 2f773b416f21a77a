// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metro/ep/layer_config.hpp"
#include "metro/ep/weights.hpp"

namespace metro::ep {

/// Throws Error{kInput} naming `what` and its field when the matrices do not fit the layer, or lack
/// values. `width` is the expert's, or its shard's.
void check_expert(std::string_view what, const ExpertWeights& expert, const LayerShape& shape,
                  int width);

/// As check_expert, for the gate and the shared expert.
void check_dense(const DenseWeights& weights, const LayerShape& shape);

}  // namespace metro::ep
