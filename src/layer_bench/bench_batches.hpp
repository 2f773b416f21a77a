// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "layer_bench/layer_bench.hpp"
#include "metro/topk.hpp"

namespace metro::layer_bench {

/// The routing that a layer benchmark replays: loads for the placement, and batches.
///
/// From the trace if there is one, else from a synthetic trace of the model's router profile, else
/// (a model without one) from lognormal popularity. Placements come from the first half of a trace,
/// batches from the second. By seed alone: the same for every policy, machine and rank.
class BenchRouting {
 public:
  /// Throws Error{kInput} for a trace of another shape than the model's, Error{kInfeasible} for
  /// batches above what its second half holds.
  BenchRouting(const ModelConfig& model, const LayerBenchOptions& options, int max_batch);

  /// [experts]
  [[nodiscard]] const std::vector<double>& loads() const noexcept { return loads_; }
  /// `options.batches` batches of `num_tokens` tokens.
  [[nodiscard]] std::vector<TopkBatch> batches(int num_tokens) const;

 private:
  int topk_;
  int num_batches_;
  std::uint64_t seed_;
  int layer_ = 0;
  std::optional<RoutingTrace> trace_;
  std::vector<double> loads_;
};

}  // namespace metro::layer_bench
