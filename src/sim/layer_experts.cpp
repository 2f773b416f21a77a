// SPDX-License-Identifier: Apache-2.0
#include "sim/layer_experts.hpp"

#include <algorithm>
#include <numeric>

namespace metro::sim {
namespace {

/// Adds one for each id; masked and foreign ids land in the last entry.
void count_ids(std::span<const std::int32_t> ids, std::vector<std::int32_t>& counts) {
  std::ranges::fill(counts, 0);
  const auto last = static_cast<std::uint32_t>(counts.size() - 1);
  for (const std::int32_t id : ids) ++counts[std::min(static_cast<std::uint32_t>(id), last)];
}

}  // namespace

LayerExperts::LayerExperts(const LayerPlacement& placement, std::string_view policy,
                           const RouteOptions& options, const CostModel& cost, int shards)
    : cost_(&cost),
      shards_(shards),
      router_(std::make_unique<Router>(placement, policy, options)),
      num_gpus_(placement.num_gpus),
      slot_begin_(static_cast<std::size_t>(placement.num_gpus) + 1, 0),
      slot_tokens_(placement.replica_to_gpu.size() + 1),
      gpus_(static_cast<std::size_t>(placement.num_gpus)) {
  for (const std::int32_t gpu : placement.replica_to_gpu) {
    ++slot_begin_[static_cast<std::size_t>(gpu) + 1];
  }
  std::partial_sum(slot_begin_.begin(), slot_begin_.end(), slot_begin_.begin());
}

LayerExperts::LayerExperts(int num_experts, int num_gpus, const CostModel& cost)
    : cost_(&cost),
      num_gpus_(num_gpus),
      slot_tokens_(static_cast<std::size_t>(num_experts) + 1),
      gpus_(1) {}

LayerTime LayerExperts::route(TopkView batch) {
  if (router_ == nullptr) {
    count_ids(batch.ids, slot_tokens_);
    const auto tokens = std::span(slot_tokens_).first(slot_tokens_.size() - 1);
    const auto active = tokens.size() - static_cast<std::size_t>(std::ranges::count(tokens, 0));
    const double us = cost_->tensor_sharded_us(tokens);
    gpus_[0] = {us, static_cast<std::int32_t>(active),
                std::accumulate(tokens.begin(), tokens.end(), std::int64_t{0})};
    return {us, static_cast<double>(active) / num_gpus_};
  }
  replica_ids_.resize(batch.ids.size());
  router_->route(batch, replica_ids_);
  count_ids(replica_ids_, slot_tokens_);
  return time_gpus();
}

LayerTime LayerExperts::time_gpus() {
  LayerTime layer;
  for (std::size_t gpu = 0; gpu < gpus_.size(); ++gpu) {
    const auto tokens =
        std::span(slot_tokens_).subspan(slot_begin_[gpu], slot_begin_[gpu + 1] - slot_begin_[gpu]);
    GpuWork& work = gpus_[gpu];
    work = {cost_->expert_us(tokens), 0, 0};
    for (const std::int32_t n : tokens) {
      work.activated += n > 0 ? 1 : 0;
      work.tokens += n;
    }
    layer.us = std::max(layer.us, work.us);
    layer.max_activated = std::max(layer.max_activated, static_cast<double>(work.activated));
  }
  layer.max_activated /= shards_;
  return layer;
}

}  // namespace metro::sim
