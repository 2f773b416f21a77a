// SPDX-License-Identifier: Apache-2.0
#include "metro/modelled_time.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "routing/modelled_bound.hpp"

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

namespace routing {

ModelledBound::ModelledBound(const LayerPlacement& placement,
                             std::shared_ptr<const ExpertCost> cost)
    : ModelledBound(ReplicaIndex(placement), std::move(cost)) {}

ModelledBound::ModelledBound(const ReplicaIndex& index, std::shared_ptr<const ExpertCost> cost)
    : cost_(std::move(cost)),
      bound_(index),
      solver_(index),
      flags_(index.num_experts()),
      slots_(static_cast<std::size_t>(index.num_experts())),
      tokens_(slots_.size() + 1) {}

double ModelledBound::of(TopkView topk) noexcept {
  count_tokens(topk.ids, tokens_);
  const int optimum = solver_.solve(flags_.mark(topk.ids), slots_);
  const std::span<const std::int64_t> tokens = std::span(tokens_).first(slots_.size());
  const double us = bound_.of(tokens, optimum, *cost_) * (1 - bound_.slack());
  // A sum over all GPUs may overflow where each GPU's does not.
  return std::isfinite(us) ? finite(cost_->base() + us) : cost_->base();
}

}  // namespace routing

double time_bound_us(const LayerPlacement& placement, const ExpertCost& cost, TopkView topk) {
  return routing::ModelledBound(placement, std::make_shared<const ExpertCost>(cost)).of(topk);
}

}  // namespace metro
