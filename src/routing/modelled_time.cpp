// SPDX-License-Identifier: Apache-2.0
#include "metro/modelled_time.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "routing/activation_solver.hpp"
#include "routing/slot_map.hpp"
#include "routing/time_bound.hpp"

namespace metro {
namespace {

/// Sums of times near the largest double stay numbers, which JSON can tell.
double finite(double us) { return std::min(us, std::numeric_limits<double>::max()); }

}  // namespace

TimeCounter::TimeCounter(const LayerPlacement& placement, std::shared_ptr<const ExpertCost> cost)
    : cost_(std::move(cost)),
      replica_to_gpu_(placement.replica_to_gpu),
      tokens_per_replica_(placement.replica_to_gpu.size()) {
  placement.validate();
  time_.per_gpu_us.resize(static_cast<std::size_t>(placement.num_gpus));
}

const ModelledTime& TimeCounter::count(std::span<const std::int32_t> replica_ids) {
  std::ranges::fill(tokens_per_replica_, 0);
  for (const std::int32_t id : replica_ids) {
    if (id >= 0) ++tokens_per_replica_[static_cast<std::size_t>(id)];
  }
  std::ranges::fill(time_.per_gpu_us, 0.0);
  for (std::size_t slot = 0; slot < tokens_per_replica_.size(); ++slot) {
    time_.per_gpu_us[static_cast<std::size_t>(replica_to_gpu_[slot])] +=
        cost_->phi(tokens_per_replica_[slot]);
  }
  for (double& us : time_.per_gpu_us) us = finite(us + cost_->base());
  time_.slowest_us = *std::ranges::max_element(time_.per_gpu_us);
  return time_;
}

double time_bound_us(const LayerPlacement& placement, const ExpertCost& cost, TopkView topk) {
  const ReplicaIndex index(placement);
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(index.num_experts()) + 1);
  routing::count_tokens(topk.ids, tokens);
  tokens.pop_back();
  routing::ActivationSolver solver(index);
  routing::ActiveFlags flags(index.num_experts());
  std::vector<std::int32_t> slots(tokens.size());
  const int optimum = solver.solve(flags.mark(topk.ids), slots);
  routing::TimeBound bound(index);
  const double us = bound.of(tokens, optimum, cost) * (1 - bound.slack());
  // A sum over all GPUs may overflow where each GPU's does not.
  return std::isfinite(us) ? finite(cost.base() + us) : cost.base();
}

}  // namespace metro
