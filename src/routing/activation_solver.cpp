// SPDX-License-Identifier: Apache-2.0
#include "routing/activation_solver.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/homes.hpp"

namespace metro::routing {
namespace {

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

}  // namespace

ActivationSolver::ActivationSolver(const ReplicaIndex& index)
    : num_gpus_(index.num_gpus()),
      gpus_(at(index.num_experts())),
      load_(at(index.num_gpus())),
      reached_(at(index.num_gpus())) {
  visited_.reserve(at(index.num_gpus()));

  std::vector<std::vector<Hosted>> hosted(at(num_gpus_));
  for (int e = 0; e < index.num_experts(); ++e) {
    const auto candidates = index.candidates(e);
    has_choice_.push_back(candidates.size() > 1 ? 1 : 0);
    if (candidates.size() < 2) continue;
    const auto begin = static_cast<std::int32_t>(candidates_.size());
    candidates_.insert(candidates_.end(), candidates.begin(), candidates.end());
    const auto end = static_cast<std::int32_t>(candidates_.size());
    expert_of_.resize(candidates_.size(), e);
    for (const Candidate& candidate : candidates) {
      hosted[at(candidate.gpu)].push_back({e, begin, end});
    }
  }
  hosted_begin_.push_back(0);
  for (const auto& experts : hosted) {
    hosted_.insert(hosted_.end(), experts.begin(), experts.end());
    hosted_begin_.push_back(static_cast<std::int32_t>(hosted_.size()));
  }

  std::vector<Candidate> base;
  base.reserve(at(index.num_experts()));
  for (const std::int32_t slot : level_homes(index, index.home())) {
    base.push_back({slot, index.replica_to_gpu()[at(slot)]});
  }
  set_base(std::move(base));
}

void ActivationSolver::set_base(std::vector<Candidate> base) {
  base_ = std::move(base);
  base_slots_.clear();
  base_gpus_.clear();
  for (const Candidate& candidate : base_) {
    base_slots_.push_back(candidate.slot);
    base_gpus_.push_back(candidate.gpu);
  }
  by_base_.resize(base_.size());
  std::iota(by_base_.begin(), by_base_.end(), 0);
  const auto key = [&](std::int32_t e) { return std::pair(base_gpus_[at(e)], has_choice_[at(e)]); };
  std::ranges::stable_sort(by_base_, {}, key);
  fixed_begin_.clear();
  free_begin_.clear();
  for (int gpu = 0; gpu <= num_gpus_; ++gpu) {
    const auto position = [&](std::uint8_t has_choice) {
      const std::pair<std::int32_t, std::uint8_t> first(gpu, has_choice);
      return static_cast<std::int32_t>(std::ranges::lower_bound(by_base_, first, {}, key) -
                                       by_base_.begin());
    };
    fixed_begin_.push_back(position(0));
    free_begin_.push_back(position(1));
  }
}

int ActivationSolver::solve(std::span<const std::uint8_t> active,
                            std::span<std::int32_t> slots) noexcept {
  std::ranges::copy(base_slots_, slots.begin());
  const auto count = [&](std::int32_t begin, std::int32_t end) {
    std::int32_t sum = 0;
    for (std::int32_t i = begin; i < end; ++i) sum += active[at(by_base_[at(i)])];
    return sum;
  };
  std::int32_t total = 0;
  std::int32_t most_fixed = 0;
  std::int32_t max_load = 0;
  for (int gpu = 0; gpu < num_gpus_; ++gpu) {
    const std::int32_t fixed = count(fixed_begin_[at(gpu)], free_begin_[at(gpu)]);
    const std::int32_t load = fixed + count(free_begin_[at(gpu)], fixed_begin_[at(gpu) + 1]);
    load_[at(gpu)] = load;
    total += load;
    most_fixed = std::max(most_fixed, fixed);
    max_load = std::max(max_load, load);
  }
  int bound = std::max((total + num_gpus_ - 1) / num_gpus_, most_fixed);
  if (max_load <= bound) return max_load;
  for (std::size_t e = 0; e < gpus_.size(); ++e) {
    gpus_[e] = base_gpus_[e] | (static_cast<std::int32_t>(active[e]) - 1);  // -1 if inactive
  }
  for (int gpu = 0; gpu < num_gpus_; ++gpu) bound = relieve(gpu, bound, slots);
  return bound;
}

int ActivationSolver::relieve(int gpu, int bound, std::span<std::int32_t> slots) noexcept {
  while (load_[at(gpu)] > bound) {
    if (move_directly(gpu, bound, slots)) continue;
    const int target = find_path(gpu, bound);
    if (target >= 0) {
      move_along(gpu, target, slots);
    } else {
      bound = bound_of_visited();
    }
  }
  return bound;
}

/// The first level of `find_path`, which nearly always suffices, as one minimum without branches:
/// which experts are here, and which GPUs have room, is in no pattern that could be predicted.
bool ActivationSolver::move_directly(int from, int bound, std::span<std::int32_t> slots) noexcept {
  constexpr int kGpuShift = 24;  // below it an index into candidates_, above the load
  constexpr int kLoadShift = 44;
  static_assert(kMaxReplicas < 1 << kGpuShift && kMaxGpus <= 1 << (kLoadShift - kGpuShift));
  std::uint64_t best = ~std::uint64_t{0};
  for (std::int32_t h = hosted_begin_[at(from)]; h < hosted_begin_[at(from) + 1]; ++h) {
    const Hosted& hosted = hosted_[at(h)];
    const std::uint64_t elsewhere = gpus_[at(hosted.expert)] == from ? 0 : ~std::uint64_t{0};
    for (std::int32_t c = hosted.candidates_begin; c < hosted.candidates_end; ++c) {
      const std::int32_t gpu = candidates_[at(c)].gpu;
      const std::uint64_t key = static_cast<std::uint64_t>(load_[at(gpu)]) << kLoadShift |
                                static_cast<std::uint64_t>(gpu) << kGpuShift |
                                static_cast<std::uint64_t>(c);
      best = std::min(best, key | elsewhere);
    }
  }
  if (best >> kLoadShift >= static_cast<std::uint64_t>(bound)) return false;
  const std::size_t moved = best & ((std::uint64_t{1} << kGpuShift) - 1);
  const Candidate& target = candidates_[moved];
  --load_[at(from)];
  ++load_[at(target.gpu)];
  gpus_[at(expert_of_[moved])] = target.gpu;
  slots[at(expert_of_[moved])] = target.slot;
  return true;
}

int ActivationSolver::find_path(int from, int bound) noexcept {
  ++search_;
  visited_.clear();
  visited_.push_back(from);
  reached_[at(from)].search = search_;
  std::size_t level_begin = 0;
  while (level_begin < visited_.size()) {
    const std::size_t level_end = visited_.size();
    std::pair<std::int32_t, std::int32_t> best(bound, -1);  // load, GPU
    for (std::size_t i = level_begin; i < level_end; ++i) {
      const std::int32_t gpu = visited_[i];
      for (std::int32_t h = hosted_begin_[at(gpu)]; h < hosted_begin_[at(gpu) + 1]; ++h) {
        const Hosted& hosted = hosted_[at(h)];
        if (gpus_[at(hosted.expert)] != gpu) continue;
        for (std::int32_t c = hosted.candidates_begin; c < hosted.candidates_end; ++c) {
          const Candidate& candidate = candidates_[at(c)];
          Reached& reached = reached_[at(candidate.gpu)];
          if (reached.search == search_) continue;
          reached = {search_, gpu, hosted.expert, candidate.slot};
          visited_.push_back(candidate.gpu);
          const std::int32_t load = load_[at(candidate.gpu)];
          if (load < bound) best = std::min(best, std::pair(load, candidate.gpu));
        }
      }
    }
    if (best.second >= 0) return best.second;
    std::sort(visited_.begin() + static_cast<std::ptrdiff_t>(level_end), visited_.end());
    level_begin = level_end;
  }
  return -1;
}

void ActivationSolver::move_along(int from, int target, std::span<std::int32_t> slots) noexcept {
  ++load_[at(target)];
  --load_[at(from)];
  for (std::int32_t gpu = target; gpu != from; gpu = reached_[at(gpu)].from) {
    const Reached& step = reached_[at(gpu)];
    gpus_[at(step.expert)] = gpu;
    slots[at(step.expert)] = step.slot;
  }
}

int ActivationSolver::bound_of_visited() const noexcept {
  int sum = 0;
  for (const std::int32_t gpu : visited_) sum += load_[at(gpu)];
  const int size = static_cast<int>(visited_.size());
  return (sum + size - 1) / size;
}

}  // namespace metro::routing
