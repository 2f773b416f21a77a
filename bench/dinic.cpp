// SPDX-License-Identifier: Apache-2.0
#include "dinic.hpp"

#include <algorithm>

namespace metro::bench {
namespace {

constexpr int kSource = 0;

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

}  // namespace

DinicRouter::DinicRouter(const LayerPlacement& placement)
    : index_(placement), flags_(placement.num_experts), map_(index_.home()) {
  const auto experts = at(placement.num_experts);
  const auto gpus = at(placement.num_gpus);
  const std::size_t nodes = 2 + experts + gpus;
  free_experts_.reserve(experts);
  load_.resize(gpus);
  arcs_.reserve(2 * (experts + placement.replica_to_expert.size() + gpus));
  sink_arcs_.resize(gpus);
  first_arc_.resize(nodes);
  next_arc_.resize(nodes);
  level_.resize(nodes);
  queue_.reserve(nodes);
}

void DinicRouter::add_arc(int from, int to, int capacity, std::int32_t slot) noexcept {
  arcs_.push_back({to, first_arc_[at(from)], capacity, slot});
  first_arc_[at(from)] = static_cast<std::int32_t>(arcs_.size()) - 1;
  arcs_.push_back({from, first_arc_[at(to)], 0, slot});
  first_arc_[at(to)] = static_cast<std::int32_t>(arcs_.size()) - 1;
}

void DinicRouter::build(std::span<const std::uint8_t> active) noexcept {
  const auto slots = map_.slots();
  const int num_gpus = index_.num_gpus();
  free_experts_.clear();
  std::ranges::fill(load_, 0);
  int num_active = 0;
  for (int e = 0; e < index_.num_experts(); ++e) {
    if (active[at(e)] == 0) continue;
    ++num_active;
    const auto candidates = index_.candidates(e);
    if (candidates.size() > 1) {
      free_experts_.push_back(e);
    } else {
      ++load_[at(candidates.front().gpu)];
      slots[at(e)] = candidates.front().slot;
    }
  }
  num_free_ = static_cast<int>(free_experts_.size());
  bound_ = std::max((num_active + num_gpus - 1) / num_gpus, std::ranges::max(load_));

  const int first_gpu = 1 + num_free_;
  sink_ = first_gpu + num_gpus;
  arcs_.clear();
  std::fill_n(first_arc_.begin(), sink_ + 1, -1);
  for (int i = 0; i < num_free_; ++i) {
    add_arc(kSource, 1 + i, 1, -1);
    for (const Candidate& candidate : index_.candidates(free_experts_[at(i)])) {
      add_arc(1 + i, first_gpu + candidate.gpu, 1, candidate.slot);
    }
  }
  for (int gpu = 0; gpu < num_gpus; ++gpu) {
    sink_arcs_[at(gpu)] = static_cast<std::int32_t>(arcs_.size());
    add_arc(first_gpu + gpu, sink_, bound_ - load_[at(gpu)], -1);
  }
}

bool DinicRouter::find_levels() noexcept {
  std::fill_n(level_.begin(), sink_ + 1, -1);
  queue_.clear();
  queue_.push_back(kSource);
  level_[kSource] = 0;
  for (std::size_t head = 0; head < queue_.size(); ++head) {
    const std::int32_t node = queue_[head];
    for (std::int32_t a = first_arc_[at(node)]; a >= 0; a = arcs_[at(a)].next) {
      const Arc& arc = arcs_[at(a)];
      if (arc.capacity == 0 || level_[at(arc.to)] >= 0) continue;
      level_[at(arc.to)] = level_[at(node)] + 1;
      queue_.push_back(arc.to);
    }
  }
  return level_[at(sink_)] >= 0;
}

int DinicRouter::augment(int node, int limit) noexcept {
  if (node == sink_) return limit;
  for (std::int32_t& a = next_arc_[at(node)]; a >= 0; a = arcs_[at(a)].next) {
    Arc& arc = arcs_[at(a)];
    if (arc.capacity == 0 || level_[at(arc.to)] != level_[at(node)] + 1) continue;
    const int flow = augment(arc.to, std::min(limit, arc.capacity));
    if (flow == 0) continue;
    arc.capacity -= flow;
    arcs_[at(a ^ 1)].capacity += flow;
    return flow;
  }
  return 0;
}

void DinicRouter::route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept {
  build(flags_.mark(topk.ids));
  int flow = 0;
  while (true) {
    while (flow < num_free_ && find_levels()) {
      std::copy_n(first_arc_.begin(), sink_ + 1, next_arc_.begin());
      while (const int more = augment(kSource, num_free_)) flow += more;
    }
    if (flow == num_free_) break;
    ++bound_;
    for (const std::int32_t arc : sink_arcs_) ++arcs_[at(arc)].capacity;
  }
  const auto slots = map_.slots();
  for (int i = 0; i < num_free_; ++i) {
    for (std::int32_t a = first_arc_[at(1 + i)]; a >= 0; a = arcs_[at(a)].next) {
      const Arc& arc = arcs_[at(a)];
      if (arc.slot >= 0 && arc.capacity == 0) slots[at(free_experts_[at(i)])] = arc.slot;
    }
  }
  map_.apply(topk, replica_ids);
}

}  // namespace metro::bench
