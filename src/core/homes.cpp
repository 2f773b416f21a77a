// SPDX-License-Identifier: Apache-2.0
#include "core/homes.hpp"

#include <algorithm>
#include <numeric>

#include "metro/homes.hpp"

namespace metro {
namespace {

std::size_t at(std::int32_t index) noexcept { return static_cast<std::size_t>(index); }

/// One home GPU per expert, and how many each GPU has.
class HomeTable {
 public:
  explicit HomeTable(const ReplicaIndex& index)
      : home_(at(index.num_experts())),
        count_(at(index.num_gpus()), 0),
        hosted_begin_(at(index.num_gpus()) + 1, 0),
        came_(at(index.num_gpus())) {
    begin_.push_back(0);
    for (int e = 0; e < index.num_experts(); ++e) {
      const auto candidates = index.candidates(e);
      candidates_.insert(candidates_.end(), candidates.begin(), candidates.end());
      std::ranges::sort(candidates_.begin() + begin_.back(), candidates_.end(), {},
                        &Candidate::gpu);
      begin_.push_back(static_cast<std::int32_t>(candidates_.size()));
      for (const Candidate& candidate : candidates) ++hosted_begin_[at(candidate.gpu) + 1];
    }
    std::partial_sum(hosted_begin_.begin(), hosted_begin_.end(), hosted_begin_.begin());
    hosted_.resize(candidates_.size());
    std::vector<std::int32_t> next(hosted_begin_.begin(), hosted_begin_.end() - 1);
    for (int e = 0; e < index.num_experts(); ++e) {
      for (const Candidate& candidate : candidates_of(e)) {
        hosted_[at(next[at(candidate.gpu)]++)] = e;
      }
    }
  }

  void start_least_first() {
    std::vector<std::int32_t> order(home_.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, {}, [&](std::int32_t e) { return candidates_of(e).size(); });
    for (const std::int32_t e : order) {
      const auto fewest = std::ranges::min_element(
          candidates_of(e), {},
          [&](const Candidate& candidate) { return count_[at(candidate.gpu)]; });
      set(e, fewest->gpu);
    }
  }

  void start_from(const ReplicaIndex& index, std::span<const std::int32_t> slots) {
    for (int e = 0; e < index.num_experts(); ++e) {
      set(e, index.replica_to_gpu()[at(slots[at(e)])]);
    }
  }

  void level() {
    for (std::int32_t most = std::ranges::max(count_); most >= 2; --most) {
      std::ptrdiff_t with_room =
          std::ranges::count_if(count_, [&](std::int32_t count) { return count <= most - 2; });
      for (std::int32_t gpu = 0; at(gpu) < count_.size(); ++gpu) {
        if (count_[at(gpu)] != most) continue;
        if (with_room == 0) return;
        const std::int32_t target = find_room(gpu, most - 2);
        if (target < 0) return;
        move_along(gpu, target);
        if (count_[at(target)] > most - 2) --with_room;
      }
    }
  }

  [[nodiscard]] std::vector<std::int32_t> slots() const {
    std::vector<std::int32_t> slots;
    slots.reserve(home_.size());
    for (std::int32_t e = 0; at(e) < home_.size(); ++e) {
      slots.push_back(std::ranges::find(candidates_of(e), home_[at(e)], &Candidate::gpu)->slot);
    }
    return slots;
  }

 private:
  /// How a search came to a GPU.
  struct Came {
    std::int32_t search = 0;  // the last search that did,
    std::int32_t from = 0;    // from this GPU
    std::int32_t expert = 0;  // by moving this expert
  };

  [[nodiscard]] std::span<const Candidate> candidates_of(std::int32_t expert) const {
    return std::span(candidates_)
        .subspan(at(begin_[at(expert)]), at(begin_[at(expert) + 1] - begin_[at(expert)]));
  }

  void set(std::int32_t expert, std::int32_t gpu) {
    home_[at(expert)] = gpu;
    ++count_[at(gpu)];
  }

  /// The first GPU, breadth first, that has at most `room` homes and that a chain of moves from
  /// `gpu` leads to; -1 if none does.
  std::int32_t find_room(std::int32_t gpu, std::int32_t room) {
    ++search_;
    came_[at(gpu)].search = search_;
    queue_.assign(1, gpu);
    for (std::size_t i = 0; i < queue_.size(); ++i) {
      const std::int32_t from = queue_[i];
      for (std::int32_t h = hosted_begin_[at(from)]; h < hosted_begin_[at(from) + 1]; ++h) {
        const std::int32_t expert = hosted_[at(h)];
        if (home_[at(expert)] != from) continue;
        for (const Candidate& candidate : candidates_of(expert)) {
          Came& came = came_[at(candidate.gpu)];
          if (came.search == search_) continue;
          came = {search_, from, expert};
          if (count_[at(candidate.gpu)] <= room) return candidate.gpu;
          queue_.push_back(candidate.gpu);
        }
      }
    }
    return -1;
  }

  void move_along(std::int32_t from, std::int32_t target) {
    --count_[at(from)];
    ++count_[at(target)];
    for (std::int32_t gpu = target; gpu != from; gpu = came_[at(gpu)].from) {
      home_[at(came_[at(gpu)].expert)] = gpu;
    }
  }

  std::vector<Candidate> candidates_;       // by expert, then GPU
  std::vector<std::int32_t> begin_;         // [experts + 1] into candidates_
  std::vector<std::int32_t> home_;          // [experts] GPU
  std::vector<std::int32_t> count_;         // [gpus] homes
  std::vector<std::int32_t> hosted_;        // experts by GPU, then id
  std::vector<std::int32_t> hosted_begin_;  // [gpus + 1]
  std::vector<Came> came_;                  // [gpus]
  std::vector<std::int32_t> queue_;
  std::int32_t search_ = 0;
};

}  // namespace

std::vector<std::int32_t> find_homes(const LayerPlacement& placement) {
  const ReplicaIndex index(placement);
  return {index.home().begin(), index.home().end()};
}

std::vector<std::int32_t> exact_homes(const ReplicaIndex& index) {
  HomeTable table(index);
  table.start_least_first();
  table.level();
  return table.slots();
}

std::vector<std::int32_t> level_homes(const ReplicaIndex& index,
                                      std::span<const std::int32_t> home) {
  HomeTable table(index);
  table.start_from(index, home);
  table.level();
  return table.slots();
}

}  // namespace metro
