// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "metro/model.hpp"

namespace metro {

/// One row of `metro bench layer`: a MoE layer under one policy. Times are of the slowest rank.
struct LayerTiming {
  std::string model;
  DataType dtype = DataType::kBf16;
  int gpus = 0;
  int tokens_per_gpu = 0;
  double replication = 1;
  std::string policy;  ///< of the router, kEplbOff or kMoeTp of vocabulary.hpp
  std::string dispatch;
  bool emulated = false;  ///< ranks took turns: communication is not in it
  double layer_us = 0;
  double experts_us = 0;                   ///< 0: not measured
  std::vector<double> activated_per_rank;  ///< means over the batches
};

/// What a run of `metro bench layer` says of itself, and its rows.
struct LayerTimings {
  std::string device;
  std::string algorithm;
  std::uint64_t seed = 0;
  int batches = 0;
  std::vector<std::string> inputs;  ///< files it read: a trace, a model's config
  std::vector<LayerTiming> rows;
};

}  // namespace metro
