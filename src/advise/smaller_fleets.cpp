// SPDX-License-Identifier: Apache-2.0
#include "advise/choice.hpp"
#include "metro/advise.hpp"
#include "metro/error.hpp"

namespace metro {
namespace {

void check(const SimulationConfig& serving) {
  const auto usage = [](const char* message) { throw Error(ErrorCode::kUsage, message); };
  if (serving.slo_tpot_ms == 0 && serving.slo_ttft_ms == 0) {
    usage("the least number of GPUs needs an SLO: must have slo_tpot_ms or slo_ttft_ms");
  }
  const Deployment& deployment = serving.deployment;
  if (deployment.expert_gpus() != deployment.gpus) {
    usage("the least number of GPUs tries groups of its own: ep must be left out");
  }
  if (serving.prefill_gpus > 0) {
    usage("the least number of GPUs is that of GPUs that do both: prefill_gpus must be 0");
  }
}

bool keeps_slo(const SimulationConfig& serving, const AdviceRow& row) {
  const SimulationResult& result = row.result;
  return row.error.empty() && !row.splits_scale_blocks && result.completed == result.submitted &&
         (serving.slo_tpot_ms == 0 || result.tpot_ms.p90 <= serving.slo_tpot_ms) &&
         (serving.slo_ttft_ms == 0 || result.ttft_ms.p90 <= serving.slo_ttft_ms);
}

/// The advised row where it keeps the SLO, else the best one that does, else the advised.
const AdviceRow& pick(const SimulationConfig& serving, const Advice& advice) {
  const AdviceRow* best = nullptr;
  if (keeps_slo(serving, advice.choice())) return advice.choice();
  for (const AdviceRow& row : advice.rows) {
    if (!keeps_slo(serving, row)) continue;
    if (best == nullptr || gain(row, *best, advice.by_goodput) > 0) best = &row;
  }
  return best != nullptr ? *best : advice.choice();
}

}  // namespace

std::vector<FleetPoint> smaller_fleets(
    const SimulationConfig& serving, const AdviceOptions& options,
    const std::function<void(std::size_t, std::size_t)>& progress) {
  check(serving);
  std::vector<int> sizes = {serving.deployment.gpus};
  while (sizes.back() % 2 == 0 && sizes.back() / 2 % serving.deployment.tp == 0) {
    sizes.push_back(sizes.back() / 2);
  }
  std::vector<FleetPoint> points;
  for (const int gpus : sizes) {
    FleetPoint& point = points.emplace_back();
    point.gpus = gpus;
    SimulationConfig config = serving;
    config.deployment.gpus = gpus;
    config.deployment.ep = 0;
    try {
      point.row = pick(config, advise(config, options));
      point.keeps_slo = keeps_slo(config, point.row);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kInfeasible) throw;
      point.error = error.what();
    }
    if (progress) progress(points.size(), sizes.size());
  }
  return points;
}

}  // namespace metro
