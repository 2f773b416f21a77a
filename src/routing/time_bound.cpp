// SPDX-License-Identifier: Apache-2.0
#include "routing/time_bound.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "routing/slot_map.hpp"

namespace metro::routing {
namespace {

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

std::int64_t divide_up(std::int64_t sum, std::int64_t parts) noexcept {
  return (sum + parts - 1) / parts;
}

}  // namespace

void count_tokens(std::span<const std::int32_t> ids, std::span<std::int64_t> tokens) noexcept {
  std::ranges::fill(tokens, 0);
  const auto num_experts = static_cast<std::uint32_t>(tokens.size() - 1);
  for (const std::int32_t id : ids) ++tokens[table_index(id, num_experts)];
}

TimeBound::TimeBound(const ReplicaIndex& index)
    : fixed_(at(index.num_gpus())),
      pressure_(fixed_.size()),
      by_pressure_(fixed_.size()),
      rank_(fixed_.size()),
      inside_(fixed_.size()) {
  for (int e = 0; e < index.num_experts(); ++e) {
    const auto begin = static_cast<std::int32_t>(gpus_.size());
    for (const Candidate& candidate : index.candidates(e)) gpus_.push_back(candidate.gpu);
    experts_.push_back({begin, static_cast<std::int32_t>(gpus_.size()),
                        static_cast<std::int32_t>(index.replicas(e).size())});
  }
}

std::span<const std::int32_t> TimeBound::gpus_of(const Expert& expert) const noexcept {
  return std::span(gpus_).subspan(at(expert.gpus_begin), at(expert.gpus_end - expert.gpus_begin));
}

double TimeBound::least(const Expert& expert, std::int64_t tokens,
                        const ExpertCost& cost) noexcept {
  return expert.num_replicas == 1 ? cost.phi(tokens) : cost.least(tokens);
}

double TimeBound::of(std::span<const std::int64_t> tokens, int optimum,
                     const ExpertCost& cost) noexcept {
  std::ranges::fill(fixed_, 0.0);
  std::ranges::fill(pressure_, 0.0);
  std::ranges::fill(inside_, 0.0);
  for (std::size_t e = 0; e < tokens.size(); ++e) {
    if (tokens[e] == 0) continue;
    const auto gpus = gpus_of(experts_[e]);
    const double us = least(experts_[e], tokens[e], cost);
    if (gpus.size() == 1) fixed_[at(gpus[0])] += us;
    for (const std::int32_t gpu : gpus) {
      pressure_[at(gpu)] += us / static_cast<double>(gpus.size());
    }
  }
  double bound = std::max(cost.phi(1) * optimum, *std::ranges::max_element(fixed_));

  std::iota(by_pressure_.begin(), by_pressure_.end(), 0);
  std::ranges::sort(by_pressure_, {},
                    [&](std::int32_t gpu) { return std::pair(-pressure_[at(gpu)], gpu); });
  for (std::size_t i = 0; i < by_pressure_.size(); ++i) {
    rank_[at(by_pressure_[i])] = static_cast<std::int32_t>(i);
  }
  for (std::size_t e = 0; e < tokens.size(); ++e) {
    if (tokens[e] == 0) continue;
    const Expert& expert = experts_[e];
    std::int32_t last = 0;
    double room = std::numeric_limits<double>::max();
    for (const std::int32_t gpu : gpus_of(expert)) {
      last = std::max(last, rank_[at(gpu)]);
      room = std::min(room, fixed_[at(gpu)]);
    }
    inside_[at(last)] += least(expert, tokens[e], cost);
    // An expert on one GPU is in that GPU's fixed time already.
    const bool has_choice = expert.gpus_end - expert.gpus_begin > 1;
    const double share = cost.phi(divide_up(tokens[e], expert.num_replicas));
    bound = std::max(bound, share + (has_choice ? room : 0.0));
  }
  double sum = 0;
  for (std::size_t i = 0; i < inside_.size(); ++i) {
    sum += inside_[i];
    bound = std::max(bound, sum / static_cast<double>(i + 1));
  }
  return bound;
}

}  // namespace metro::routing
