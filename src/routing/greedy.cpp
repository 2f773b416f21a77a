// SPDX-License-Identifier: Apache-2.0
#include "routing/greedy.hpp"

#include <algorithm>

namespace metro::routing {

GreedyPolicy::GreedyPolicy(const ReplicaIndex& index, const std::vector<std::int32_t>& order)
    : load_(static_cast<std::size_t>(index.num_gpus())),
      flags_(index.num_experts()),
      map_(index.home()) {
  for (const std::int32_t expert : order) {
    const auto begin = static_cast<std::int32_t>(candidates_.size());
    const auto candidates = index.candidates(expert);
    candidates_.insert(candidates_.end(), candidates.begin(), candidates.end());
    std::ranges::sort(candidates_.begin() + begin, candidates_.end(), {}, &Candidate::gpu);
    visits_.push_back({expert, begin, static_cast<std::int32_t>(candidates_.size())});
  }
}

void GreedyPolicy::route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept {
  const auto active = flags_.mark(topk.ids);
  const auto slots = map_.slots();
  std::ranges::fill(load_, 0);
  // No branch on whether an expert is active: about half are in light batches, in no pattern.
  for (const Visit& visit : visits_) {
    const auto expert = static_cast<std::size_t>(visit.expert);
    const Candidate* best = &candidates_[static_cast<std::size_t>(visit.begin)];
    const Candidate* const end = candidates_.data() + visit.end;
    std::int32_t least = load_[static_cast<std::size_t>(best->gpu)];
    for (const Candidate* candidate = best + 1; candidate != end; ++candidate) {
      const std::int32_t load = load_[static_cast<std::size_t>(candidate->gpu)];
      best = load < least ? candidate : best;
      least = std::min(least, load);
    }
    load_[static_cast<std::size_t>(best->gpu)] = least + active[expert];
    slots[expert] = best->slot;
  }
  map_.apply(topk, replica_ids);
}

}  // namespace metro::routing
