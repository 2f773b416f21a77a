// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "metro/cost.hpp"
#include "metro/simulate.hpp"
#include "sim/engine_builder.hpp"

namespace metro::reproduction {

/// A step in which every running request decodes one token; means over drawn batches.
struct DecodeStep {
  StepTimes times;  ///< all but experts
  double experts_us = 0;
  double max_activated = 0;  ///< mean over layers

  [[nodiscard]] double total_us() const noexcept { return times.total_us() + experts_us; }
};

/// Steps of the simulator's own engine with nothing but decoding in them: what the paper's "decode"
/// figures are about, where a served trace has prompts in nearly half of its steps.
class DecodeModel {
 public:
  /// Throws as `simulate`.
  DecodeModel(const SimulationConfig& config, SimulationCache& cache);

  /// `batch` requests over all ranks, each with `context` tokens.
  [[nodiscard]] DecodeStep at(std::int64_t batch, std::int64_t context);

  /// Largest batch of such contexts that the KV cache holds.
  [[nodiscard]] std::int64_t largest_batch(std::int64_t context) const noexcept;

 private:
  sim::EnginePart part_;
};

}  // namespace metro::reproduction
