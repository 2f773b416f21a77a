// SPDX-License-Identifier: Apache-2.0
#include "reproduce/decode_model.hpp"

#include <algorithm>

namespace metro::reproduction {

DecodeModel::DecodeModel(const SimulationConfig& config, SimulationCache& cache)
    : part_(sim::build_engine(config, cache, config.deployment.gpus, sim::EngineRole::kDecode)) {}

DecodeStep DecodeModel::at(std::int64_t batch, std::int64_t context) {
  constexpr int kDraws = 32;
  const sim::EngineSetup& setup = part_.setup;
  const std::int64_t rows = (batch + setup.num_ranks - 1) / setup.num_ranks;  // the busiest rank's
  StepLoad load;
  load.decode_rows = rows;
  load.decode_context_tokens = rows * context;
  load.logits_rows = rows;
  load.global_tokens = batch;
  load.decode_requests = static_cast<int>(rows);
  DecodeStep step;
  step.times = setup.decode_cost->step(load);
  for (int draw = 0; draw < kDraws; ++draw) {
    const sim::LayerSums sums = part_.experts->of_step({batch, 0}, draw, nullptr);
    step.experts_us += sums.us / kDraws;
    step.max_activated += sums.max_activated / kDraws / setup.num_moe_layers;
  }
  return step;
}

std::int64_t DecodeModel::largest_batch(std::int64_t context) const noexcept {
  const sim::RankLimits& limits = part_.setup.limits;
  return std::max<std::int64_t>(1, limits.kv_capacity / (context + limits.kv_per_request)) *
         part_.setup.num_ranks;
}

}  // namespace metro::reproduction
