// SPDX-License-Identifier: Apache-2.0
#include "ep/token_targets.hpp"

#include <algorithm>

namespace metro::ep {

void TokenTargets::compute(std::span<const std::int32_t> replica_ids, int num_rows) {
  for (auto& rows : rows_) rows.clear();
  if (num_rows == 0) return;
  const std::size_t topk = replica_ids.size() / static_cast<std::size_t>(num_rows);
  for (int row = 0; row < num_rows; ++row) {
    for (const std::int32_t id : replica_ids.subspan(static_cast<std::size_t>(row) * topk, topk)) {
      if (id < 0) continue;
      if (!slot_to_gpu_.empty()) {
        const auto group = static_cast<std::size_t>(slot_to_gpu_[static_cast<std::size_t>(id)]);
        for (std::size_t shard = 0; shard < shards_; ++shard) add(group * shards_ + shard, row);
      } else {
        for (std::size_t gpu = 0; gpu < rows_.size(); ++gpu) add(gpu, row);
      }
    }
  }
}

void TokenTargets::add(std::size_t gpu, int row) {
  auto& rows = rows_[gpu];
  if (rows.empty() || rows.back() != row) rows.push_back(row);
}

std::span<const std::int32_t> TokenTargets::rows(int gpu, int begin, int end) const noexcept {
  const auto all = rows(gpu);
  const auto first = std::ranges::lower_bound(all, begin);
  return {first, std::ranges::lower_bound(first, all.end(), end)};
}

}  // namespace metro::ep
