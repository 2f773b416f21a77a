// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/replica_index.hpp"
#include "core/rng.hpp"
#include "metro/cuda/engine_maps.hpp"
#include "metro/placement.hpp"
#include "metro/router.hpp"
#include "metro/topk.hpp"

namespace metro::test {

/// An engine's maps of one layer on the host, as vLLM keeps them: rows padded with -1.
struct EngineTables {
  /// Replicas are listed in any order: vLLM's is by slot, ours puts the home first.
  EngineTables(const LayerPlacement& placement, Rng& rng)
      : counts(static_cast<std::size_t>(placement.num_experts)) {
    std::vector<std::vector<std::int64_t>> lists(counts.size());
    for (int slot = 0; slot < placement.num_replicas(); ++slot) {
      lists[static_cast<std::size_t>(placement.replica_to_expert[static_cast<std::size_t>(slot)])]
          .push_back(slot);
    }
    for (auto& list : lists) {
      rng.shuffle(list);
      row_stride = std::max(row_stride, static_cast<std::int64_t>(list.size()));
    }
    row_stride += rng.below(5);
    for (std::size_t e = 0; e < lists.size(); ++e) {
      counts[e] = static_cast<std::int64_t>(lists[e].size());
      lists[e].resize(static_cast<std::size_t>(row_stride), -1);
      rows.insert(rows.end(), lists[e].begin(), lists[e].end());
    }
  }

  [[nodiscard]] std::vector<std::int64_t> replicas(int expert) const {
    const auto begin = rows.begin() + expert * row_stride;
    return {begin, begin + counts[static_cast<std::size_t>(expert)]};
  }
  [[nodiscard]] cuda::EngineMaps on_host() const {
    cuda::EngineMaps maps;
    maps.expert_to_replicas = rows.data();
    maps.row_stride = row_stride;
    maps.num_replicas_of = counts.data();
    return maps;
  }

  std::vector<std::int64_t> rows;
  std::vector<std::int64_t> counts;
  std::int64_t row_stride = 0;
};

/// What a batch comes to, by a plain reading of EngineMaps.
struct Served {
  std::vector<std::int32_t> replicas;
  std::vector<std::int32_t> load;
  std::int64_t not_live = 0;
  std::int64_t stale = 0;
};

inline Served serve_plainly(const LayerPlacement& routed, std::string_view policy,
                            const EngineTables& engine, int load_size, const TopkBatch& topk,
                            std::int32_t num_valid, bool is_live, bool is_recording) {
  const auto at = [](int index) { return static_cast<std::size_t>(index); };
  const int rows = std::clamp(num_valid, 0, topk.num_tokens);
  const auto is_expert = [&](std::int32_t id) { return id >= 0 && id < routed.num_experts; };
  TopkBatch valid = topk;
  std::fill(valid.ids.begin() + rows * topk.topk, valid.ids.end(), kMasked);
  std::vector<std::int32_t> routes(valid.ids.size());
  Router(routed, policy).route(valid.view(), routes);
  std::vector<std::int32_t> chosen(at(routed.num_experts), -1);
  for (std::size_t i = 0; i < routes.size(); ++i) {
    if (routes[i] >= 0) chosen[at(valid.ids[i])] = routes[i];
  }
  const ReplicaIndex index(routed);
  Served served{{}, std::vector<std::int32_t>(at(load_size)), 0, 0};
  for (int i = 0; i < topk.num_tokens * topk.topk; ++i) {
    const int row = i / topk.topk;
    const int source = row < rows || rows == 0 ? row : row % rows;
    const std::int32_t expert = topk.ids[at(source * topk.topk + i % topk.topk)];
    std::int64_t slot = -1;
    bool ours = false;
    if (is_expert(topk.ids[at(i)]) && is_expert(expert)) {
      const std::vector<std::int64_t> listed = engine.replicas(expert);
      ours = is_live && rows > 0;
      for (const Candidate& candidate : index.candidates(expert)) {
        ours = ours && std::ranges::count(listed, candidate.slot) == 1;
      }
      const auto hash = static_cast<std::uint32_t>(row * std::int64_t{2654435769});
      slot = ours ? chosen[at(expert)] : listed[hash % listed.size()];
    }
    served.replicas.push_back(static_cast<std::int32_t>(slot));
    if (row >= rows || slot < 0) continue;
    if (is_recording && slot < load_size) ++served.load[static_cast<std::size_t>(slot)];
    if (!ours) ++(is_live ? served.stale : served.not_live);
  }
  return served;
}

}  // namespace metro::test
