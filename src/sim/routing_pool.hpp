// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "metro/loads.hpp"
#include "metro/model.hpp"
#include "metro/trace.hpp"
#include "metro/trace_generator.hpp"

namespace metro::sim {

/// The second half of a trace, layer by layer where that takes little memory: steps ask for the
/// same tokens' experts in one layer after the other.
class StepRows {
 public:
  explicit StepRows(std::shared_ptr<const RoutingTrace> trace);

  /// As RoutingTrace::gather, for rows of the second half.
  void gather(std::span<const std::int64_t> rows, int layer,
              std::span<std::int32_t> out) const noexcept;

  [[nodiscard]] const RoutingTrace& trace() const noexcept { return *trace_; }
  [[nodiscard]] std::int64_t begin() const noexcept { return begin_; }

 private:
  std::shared_ptr<const RoutingTrace> trace_;
  std::int64_t begin_;
  std::vector<std::int32_t> ids_;  // [layers][rows][topk]; empty: too many
};

/// The routed tokens that a simulation draws its steps from.
///
/// Placements come from the first half of the tokens, steps from the second, as in `compare`. MoE
/// layer m of the model is layer m mod `num_layers` of the traces.
struct RoutingPool {
  std::shared_ptr<const StepRows> decode;
  std::shared_ptr<const StepRows> prefill;  ///< may be the same
  Loads loads;                              ///< of the first half of `decode`

  [[nodiscard]] int num_layers() const noexcept { return decode->trace().num_layers(); }
  [[nodiscard]] int num_experts() const noexcept { return decode->trace().num_experts(); }
  [[nodiscard]] int topk() const noexcept { return decode->trace().topk(); }
};

/// Throws Error{kInput} unless a trace's experts, top-k and layers are the model's; it may have
/// fewer layers.
void check_trace(const RoutingTrace& trace, const ModelConfig& model);

/// A pool over a recorded trace. Throws as check_trace.
RoutingPool pool_of_trace(const std::shared_ptr<const RoutingTrace>& trace,
                          const ModelConfig& model);

/// A pool drawn from a router profile, with the model's experts, top-k and layers; but for at most
/// 32 distinct layers, as more only cost time (docs/simulator.md).
RoutingPool pool_of_profile(const RouterProfile& profile, const ModelConfig& model,
                            int draft_tokens, std::uint64_t seed);

/// The profile that comes closest to the model in experts, top-k and layers.
const RouterProfile& nearest_profile(const ModelConfig& model);

}  // namespace metro::sim
