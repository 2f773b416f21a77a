// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cost/expected_experts.hpp"
#include "metro/cost.hpp"

namespace metro::cost {

/// Requests of one kind, `concurrency` of them in flight all the time.
struct ClosedLoop {
  double input_tokens = 0;
  double output_tokens = 0;
  double concurrency = 1;
};

struct ServingEstimate {
  double ttft_ms = 0;
  double tpot_ms = 0;
  double decode_step_ms = 0;  ///< without prefill in between
  double prefill_ms = 0;      ///< of one request
};

/// Steady state of an engine under a closed loop, in closed form: decode steps at the mean batch
/// and context, slowed down by the share of time that prefill takes. A quick stand-in for the
/// simulator, which knows arrivals, memory and routing.
ServingEstimate estimate_serving(const CostModel& cost, const ExpectedExperts& experts,
                                 const ModelConfig& model, const Deployment& deployment,
                                 const ClosedLoop& load);

}  // namespace metro::cost
