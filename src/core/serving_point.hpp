// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "metro/model.hpp"

namespace metro {

enum class AttentionSharding : std::uint8_t {
  kUnknown,
  kTensor,  ///< over all GPUs
  kData     ///< each GPU has its own requests
};

/// One row of a table of measured serving points (docs/formats.md): `concurrency` requests in
/// flight, lengths drawn from 80-100 % of `input_tokens` and `output_tokens`.
struct ServingPoint {
  std::string id;
  std::string model;
  std::string gpu;
  std::string engine;
  DataType precision = DataType::kBf16;
  int input_tokens = 0;
  int output_tokens = 0;
  std::optional<int> concurrency;
  int gpus = 0;
  AttentionSharding attention = AttentionSharding::kUnknown;
  int ep = 0;
  int moe_tp = 0;
  double ttft_ms = 0;
  double tpot_ms = 0;
  std::string group_id;        ///< rows of one configuration
  std::string measurement_id;  ///< rows of one measurement
  std::size_t line = 0;
};

}  // namespace metro
