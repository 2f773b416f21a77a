// SPDX-License-Identifier: Apache-2.0
#include "routing/time_balancer.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace metro::routing {
namespace {

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

/// A peak that is lower by a smaller share is no better: rounding ends there, and so does the
/// search.
constexpr double kWorthwhile = 1 - 0x1p-30;
constexpr double kFewer = 1 - 0x1p-20;  // of what an expert adds: what wakes one more replica
constexpr int kHalvings = 20;

/// The least value in (low, high] for which `holds`, which never turns false again; it does at
/// high.
template <typename Holds>
std::int64_t first_where(std::int64_t low, std::int64_t high, Holds holds) {
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (holds(middle) ? high : low) = middle;
  }
  return high;
}

/// A level near the least in (low, high] for which `holds`, as it does at high.
template <typename Holds>
double lowest(double low, double high, Holds holds) {
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = low + (high - low) / 2;
    (holds(middle) ? high : low) = middle;
  }
  return high;
}

}  // namespace

TimeBalancer::TimeBalancer(const LayerPlacement& placement, const ReplicaIndex& index,
                           std::shared_ptr<const ExpertCost> cost)
    : cost_(std::move(cost)),
      solver_(index),
      flags_(index.num_experts()),
      bound_(index),
      num_experts_(index.num_experts()),
      expert_of_(placement.replica_to_expert),
      gpu_of_(placement.replica_to_gpu),
      home_(index.home().begin(), index.home().end()),
      tokens_(at(num_experts_) + 1),
      slots_(at(num_experts_)),
      order_(at(num_experts_)),
      quota_(expert_of_.size()),
      best_(expert_of_.size()),
      load_(at(index.num_gpus())) {
  std::vector<std::vector<std::int32_t>> movable(load_.size());
  std::size_t most = 0;
  replica_begin_.push_back(0);
  for (int e = 0; e < num_experts_; ++e) {
    const auto slots = index.replicas(e);
    most = std::max(most, slots.size());
    replicas_.insert(replicas_.end(), slots.begin(), slots.end());
    replica_begin_.push_back(static_cast<std::int32_t>(replicas_.size()));
    single_.push_back(slots.front());
    base_.push_back(solver_.base()[at(e)].slot);
    if (slots.size() < 2) continue;
    for (const std::int32_t slot : slots) movable[at(gpu_of_[at(slot)])].push_back(slot);
  }
  nearest_.resize(most);
  before_.resize(most);
  movable_begin_.push_back(0);
  for (const auto& slots : movable) {
    movable_.insert(movable_.end(), slots.begin(), slots.end());
    movable_begin_.push_back(static_cast<std::int32_t>(movable_.size()));
  }
}

std::span<std::int64_t> TimeBalancer::solve(std::span<const std::int32_t> ids) noexcept {
  count_tokens(ids, tokens_);
  const int optimum = solver_.solve(flags_.mark(ids), slots_);
  const double bound =
      bound_.of(std::span(tokens_).first(at(num_experts_)), optimum, *cost_) * (1 + bound_.slack());
  take_slots(slots_);
  best_slowest_ = slowest_;
  std::ranges::copy(quota_, best_.begin());
  for (const auto* slots : {&home_, &single_, &base_}) {
    take_slots(*slots);
    keep_if_better();
  }
  take_even();
  keep_if_better();
  if (best_slowest_ <= bound) return best_;
  std::ranges::copy(best_, quota_.begin());
  price();
  improve(bound);
  keep_if_better();
  if (best_slowest_ <= bound) return best_;
  build(bound);
  improve(bound);
  keep_if_better();
  return best_;
}

std::span<const std::int32_t> TimeBalancer::replicas(std::int32_t expert) const noexcept {
  const std::int32_t begin = replica_begin_[at(expert)];
  return std::span(replicas_).subspan(at(begin), at(replica_begin_[at(expert) + 1] - begin));
}

void TimeBalancer::take_slots(std::span<const std::int32_t> slots) noexcept {
  std::ranges::fill(quota_, 0);
  for (std::size_t e = 0; e < slots.size(); ++e) quota_[at(slots[e])] = tokens_[e];
  price();
}

void TimeBalancer::take_even() noexcept {
  for (std::int32_t e = 0; e < num_experts_; ++e) {
    const auto slots = replicas(e);
    const auto count = static_cast<std::int64_t>(slots.size());
    for (std::int64_t i = 0; i < count; ++i) {
      quota_[at(slots[static_cast<std::size_t>(i)])] = (tokens_[at(e)] + count - 1 - i) / count;
    }
  }
  price();
}

/// Experts without a choice first, then by falling number of tokens: each whole to its least loaded
/// GPU while that stays under the target, else over as few replicas as reach the lowest peak.
void TimeBalancer::build(double bound) noexcept {
  std::ranges::fill(quota_, 0);
  std::ranges::fill(load_, 0.0);
  for (std::int32_t e = 0; e < num_experts_; ++e) order_[at(e)] = e;
  std::ranges::sort(order_, {}, [&](std::int32_t e) {
    return std::tuple(replicas(e).size() > 1, -tokens_[at(e)], e);
  });
  double target = bound;
  for (const std::int32_t e : order_) {
    if (tokens_[at(e)] > 0) place_one(e, target);
  }
}

void TimeBalancer::place_one(std::int32_t expert, double& target) noexcept {
  const auto slots = replicas(expert);
  const std::span<std::int32_t> nearest = std::span(nearest_).first(slots.size());
  std::ranges::copy(slots, nearest.begin());
  std::ranges::sort(nearest, {}, [&](std::int32_t slot) {
    return std::pair(load_[at(gpu_of_[at(slot)])], slot);
  });
  const std::int64_t tokens = tokens_[at(expert)];
  const double least = load_[at(gpu_of_[at(nearest[0])])];
  double level = least + cost_->phi(tokens);
  std::size_t used = 1;
  for (std::size_t count = 2; level > target && count <= nearest.size(); ++count) {
    const auto fits = [&](double to) { return fill(nearest.first(count), tokens, to, false) == 0; };
    // Only what is lower than with fewer replicas is worth waking one more.
    const double lower = least + (level - least) * kFewer;
    if (!fits(lower)) continue;
    level = target >= least && fits(target) ? target : lowest(least, lower, fits);
    used = count;
  }
  if (const std::int64_t left = fill(nearest.first(used), tokens, level, true); left > 0) {
    add(nearest.front(), left);  // where rounding made the level a little too low
  }
  target = std::max(target, level);
}

/// Gives each of the slots in turn as many tokens as keep its GPU at the level; returns how many
/// are left. Only tries, unless told to keep it.
std::int64_t TimeBalancer::fill(std::span<const std::int32_t> slots, std::int64_t tokens,
                                double level, bool keep) noexcept {
  std::int64_t left = tokens;
  std::size_t done = 0;
  for (; done < slots.size() && left > 0; ++done) {
    const std::int32_t slot = slots[done];
    double& load = load_[at(gpu_of_[at(slot)])];
    const double room = level - load;
    const std::int64_t part =
        cost_->phi(left) <= room
            ? left
            : first_where(0, left, [&](std::int64_t n) { return cost_->phi(n) > room; }) - 1;
    before_[done] = load;
    quota_[at(slot)] = part;
    load += cost_->phi(part);  // a second copy on this GPU sees it
    left -= part;
  }
  if (keep) return left;
  while (done-- > 0) {
    load_[at(gpu_of_[at(slots[done])])] = before_[done];
    quota_[at(slots[done])] = 0;
  }
  return left;
}

void TimeBalancer::price() noexcept {
  std::ranges::fill(load_, 0.0);
  for (std::size_t slot = 0; slot < quota_.size(); ++slot) {
    load_[at(gpu_of_[slot])] += cost_->phi(quota_[slot]);
  }
  slowest_ = *std::ranges::max_element(load_);
}

void TimeBalancer::keep_if_better() noexcept {
  if (slowest_ >= best_slowest_) return;
  best_slowest_ = slowest_;
  std::ranges::copy(quota_, best_.begin());
}

/// Every step takes one GPU below the peak and puts none at it, so it ends; the limits only bound
/// the time.
void TimeBalancer::improve(double bound) noexcept {
  const std::size_t most_steps = 64 + 8 * load_.size();
  std::size_t searches = 16 + load_.size();
  for (std::size_t step = 0; step < most_steps; ++step) {
    const std::int32_t gpu = slowest_gpu();
    slowest_ = load_[at(gpu)];
    if (slowest_ <= bound) break;
    const Move move = best_move(gpu, slowest_ * kWorthwhile);
    if (move.from >= 0) {
      apply(move.from, move.to, move.tokens);
    } else if (searches-- == 0 || !move_twice(gpu, slowest_ * kWorthwhile)) {
      break;
    }
  }
  price();
}

std::int32_t TimeBalancer::slowest_gpu() const noexcept {
  return static_cast<std::int32_t>(std::ranges::max_element(load_) - load_.begin());
}

/// The move or split off this GPU that leaves the slower of its two GPUs fastest, if below `limit`.
TimeBalancer::Move TimeBalancer::best_move(std::int32_t gpu, double limit) const noexcept {
  Move best{.slowest = limit};
  for (std::int32_t i = movable_begin_[at(gpu)]; i < movable_begin_[at(gpu) + 1]; ++i) {
    const std::int32_t from = movable_[at(i)];
    const std::int64_t held = quota_[at(from)];
    if (held == 0) continue;
    for (const std::int32_t to : replicas(expert_of_[at(from)])) {
      if (to == from) continue;
      const std::int64_t there = quota_[at(to)];
      const std::int32_t target = gpu_of_[at(to)];
      if (target == gpu) {
        consider(from, to, held, best);
        if (held - there > 1) consider(from, to, (held - there) / 2, best);
        continue;
      }
      const double others = load_[at(target)] - cost_->phi(there);
      if (others + cost_->phi(there + 1) >= best.slowest) continue;
      const double stay = load_[at(gpu)] - cost_->phi(held);
      // Where what comes first outweighs what stays: there, or one token before.
      const std::int64_t balance = first_where(0, held, [&](std::int64_t n) {
        return others + cost_->phi(there + n) >= stay + cost_->phi(held - n);
      });
      consider(from, to, balance, best);
      if (balance > 1) consider(from, to, balance - 1, best);
      if (balance < held) consider(from, to, held, best);
    }
  }
  return best;
}

void TimeBalancer::consider(std::int32_t from, std::int32_t to, std::int64_t tokens,
                            Move& best) const noexcept {
  const double gone = cost_->phi(quota_[at(from)] - tokens) - cost_->phi(quota_[at(from)]);
  const double come = cost_->phi(quota_[at(to)] + tokens) - cost_->phi(quota_[at(to)]);
  const double source = load_[at(gpu_of_[at(from)])] + gone;
  const double slowest = gpu_of_[at(from)] == gpu_of_[at(to)]
                             ? source + come
                             : std::max(source, load_[at(gpu_of_[at(to)])] + come);
  if (slowest < best.slowest) best = {from, to, tokens, slowest};
}

void TimeBalancer::add(std::int32_t slot, std::int64_t tokens) noexcept {
  std::int64_t& held = quota_[at(slot)];
  load_[at(gpu_of_[at(slot)])] += cost_->phi(held + tokens) - cost_->phi(held);
  held += tokens;
}

void TimeBalancer::apply(std::int32_t from, std::int32_t to, std::int64_t tokens) noexcept {
  add(from, -tokens);
  add(to, tokens);
}

/// Where no move off this GPU helps: one whose target then passes something on, to a third GPU or
/// back.
bool TimeBalancer::move_twice(std::int32_t gpu, double peak) noexcept {
  for (std::int32_t i = movable_begin_[at(gpu)]; i < movable_begin_[at(gpu) + 1]; ++i) {
    const std::int32_t from = movable_[at(i)];
    const std::int64_t held = quota_[at(from)];
    if (held == 0) continue;
    for (const std::int32_t to : replicas(expert_of_[at(from)])) {
      const std::int32_t target = gpu_of_[at(to)];
      if (target == gpu) continue;
      for (const std::int64_t tokens : {held, held / 2}) {
        if (tokens == 0) continue;
        const std::pair before(load_[at(gpu)], load_[at(target)]);
        apply(from, to, tokens);
        if (load_[at(gpu)] < peak) {
          const Move next = best_move(target, peak);
          if (next.from >= 0) {
            apply(next.from, next.to, next.tokens);
            return true;
          }
        }
        apply(to, from, tokens);
        std::tie(load_[at(gpu)], load_[at(target)]) = before;
      }
    }
  }
  return false;
}

}  // namespace metro::routing
