// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <queue>
#include <tuple>
#include <utility>
#include <vector>

#include "metro/error.hpp"
#include "placement/algorithms.hpp"
#include "placement/packing.hpp"

namespace metro {
namespace {

/// GPUs weighed for all copies of a layer: some seconds.
constexpr std::size_t kMaxWeighed = std::size_t{1} << 28;

/// A placement under construction in which no GPU holds an expert twice.
class HomedBuilder {
 public:
  /// Gives every expert its home, by EPLB's packing at one replica per expert.
  HomedBuilder(std::span<const double> load, const PlacementRequest& request)
      : load_(load.begin(), load.end()),
        slots_per_gpu_(static_cast<std::size_t>(request.num_replicas / request.num_gpus)),
        hosts_(load.size()),
        experts_on_(static_cast<std::size_t>(request.num_gpus)),
        gpu_load_(experts_on_.size(), 0.0) {
    if (const double largest = std::ranges::max(load); largest > 0) {
      for (double& tokens : load_) tokens /= largest;  // so that no sum can overflow
    }
    const Packing packing = pack_balanced(to_float32(load), request.num_gpus);
    std::vector<std::pair<std::int32_t, std::int32_t>> order;  // (rank on its GPU, expert)
    order.reserve(load.size());
    for (std::size_t e = 0; e < load.size(); ++e) {
      order.emplace_back(packing.rank[e], static_cast<std::int32_t>(e));
    }
    std::ranges::sort(order);
    for (const auto& [rank, expert] : order) {
      add(expert, packing.pack[static_cast<std::size_t>(expert)]);
    }
  }

  /// Fills all slots: again and again the expert with the most load per copy gets another one.
  ///
  /// Second copies come before third ones (beyond 2x, third before fourth, ...): an expert with a
  /// choice of two GPUs already evens out what they activate. The cap rises only when no expert
  /// below it fits a free slot. A GPU with a free slot lacks some expert, as it has at most as many
  /// slots as there are experts, so this always ends with every slot filled.
  void add_copies() {
    std::size_t left = slots_per_gpu_ * experts_on_.size() - load_.size();
    const std::size_t copies_each = (left + 2 * load_.size() - 1) / load_.size();
    for (std::size_t cap = std::max<std::size_t>(2, copies_each); left > 0; ++cap) {
      std::priority_queue<std::pair<double, std::int32_t>> hottest;  // ties: the lowest id
      const auto push = [&](std::int32_t expert) {
        if (hosts(expert).size() < cap) hottest.emplace(load_per_copy(expert), -expert);
      };
      for (std::size_t e = 0; e < load_.size(); ++e) push(static_cast<std::int32_t>(e));
      while (left > 0 && !hottest.empty()) {
        const std::int32_t expert = -hottest.top().second;
        hottest.pop();
        const std::optional<std::int32_t> gpu = best_gpu(expert);
        if (!gpu) continue;  // GPUs only fill up: it will not fit later either
        add(expert, *gpu);
        --left;
        push(expert);
      }
    }
  }

  /// Slots numbered GPU by GPU, homes first.
  [[nodiscard]] LayerPlacement placement() const {
    LayerPlacement placement{
        static_cast<int>(load_.size()), static_cast<int>(experts_on_.size()), {}, {}, {}, {}};
    placement.home.resize(load_.size());
    for (std::size_t gpu = 0; gpu < experts_on_.size(); ++gpu) {
      const auto id = static_cast<std::int32_t>(gpu);
      for (const std::int32_t expert : experts_on_[gpu]) {
        if (hosts(expert).front() == id) {
          placement.home[static_cast<std::size_t>(expert)] = placement.num_replicas();
        }
        placement.replica_to_expert.push_back(expert);
        placement.replica_to_gpu.push_back(id);
      }
    }
    return placement;
  }

 private:
  [[nodiscard]] const std::vector<std::int32_t>& hosts(std::int32_t expert) const {
    return hosts_[static_cast<std::size_t>(expert)];
  }

  [[nodiscard]] double load_per_copy(std::int32_t expert) const {
    return load_[static_cast<std::size_t>(expert)] / static_cast<double>(hosts(expert).size());
  }

  void add(std::int32_t expert, std::int32_t gpu) {
    auto& hosts = hosts_[static_cast<std::size_t>(expert)];
    const double before = hosts.empty() ? 0 : load_per_copy(expert);
    for (const std::int32_t host : hosts) gpu_load_[static_cast<std::size_t>(host)] -= before;
    hosts.push_back(gpu);
    const double after = load_per_copy(expert);
    for (const std::int32_t host : hosts) gpu_load_[static_cast<std::size_t>(host)] += after;
    experts_on_[static_cast<std::size_t>(gpu)].push_back(expert);
  }

  /// Where a further copy of the expert goes: the GPU with room that shares fewest experts with
  /// its hosts (so that as many pairs of GPUs as possible can relieve each other), then with the
  /// fewest slots used, then the least loaded, then the lowest.
  std::optional<std::int32_t> best_gpu(std::int32_t expert) {
    shared_.assign(experts_on_.size(), 0);
    for (const std::int32_t host : hosts(expert)) {
      for (const std::int32_t other : experts_on_[static_cast<std::size_t>(host)]) {
        for (const std::int32_t gpu : hosts(other)) ++shared_[static_cast<std::size_t>(gpu)];
      }
    }
    std::optional<std::int32_t> best;
    std::tuple<std::size_t, std::size_t, double> best_cost;
    for (std::size_t gpu = 0; gpu < experts_on_.size(); ++gpu) {
      const auto id = static_cast<std::int32_t>(gpu);
      const std::size_t used = experts_on_[gpu].size();
      if (used == slots_per_gpu_ || std::ranges::find(hosts(expert), id) != hosts(expert).end()) {
        continue;
      }
      const std::tuple cost(shared_[gpu], used, gpu_load_[gpu]);
      if (!best || cost < best_cost) {
        best = id;
        best_cost = cost;
      }
    }
    return best;
  }

  std::vector<double> load_;
  std::size_t slots_per_gpu_;
  std::vector<std::vector<std::int32_t>> hosts_;       // [experts] GPUs, the home first
  std::vector<std::vector<std::int32_t>> experts_on_;  // [gpus] in slot order
  std::vector<double> gpu_load_;                       // [gpus] if copies share equally
  std::vector<std::size_t> shared_;                    // [gpus] scratch of best_gpu
};

}  // namespace

LayerPlacement place_homed(std::span<const double> load, const PlacementRequest& request) {
  check_request(load, request);
  const std::size_t most = load.size() * static_cast<std::size_t>(request.num_gpus);
  if (static_cast<std::size_t>(request.num_replicas) > most) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} replicas put some expert twice on a GPU, must be at most {} ({} "
                            "experts x {} GPUs)",
                            request.num_replicas, most, load.size(), request.num_gpus));
  }
  const std::size_t copies = static_cast<std::size_t>(request.num_replicas) - load.size();
  const auto gpus = static_cast<std::size_t>(request.num_gpus);
  if (copies > kMaxWeighed / gpus) {
    throw Error(
        ErrorCode::kInfeasible,
        fmt::format("homed weighs each of {} GPUs for each of {} extra replicas, must be at "
                    "most {} in all; eplb has no such limit",
                    gpus, copies, kMaxWeighed));
  }
  HomedBuilder builder(load, request);
  builder.add_copies();
  return builder.placement();
}

}  // namespace metro
