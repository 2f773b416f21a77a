// SPDX-License-Identifier: Apache-2.0
#include "ep/expert_stage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/parallel.hpp"
#include "ep/check_weights.hpp"

namespace metro::ep {

ExpertStage::ExpertStage(const LayerShape& shape, std::string_view kernel, int num_threads)
    : shape_(shape), workers_(static_cast<std::size_t>(std::max(num_threads, 1))) {
  for (Worker& worker : workers_) worker.matmul = make_matmul(kernel, shape.weights);
}

void ExpertStage::set_slots(std::span<const std::int32_t> slot_to_expert,
                            const std::vector<bool>& is_local, int width, WeightSource& source) {
  weights_.assign(slot_to_expert.size(), nullptr);
  for (std::size_t slot = 0; slot < weights_.size(); ++slot) {
    if (!is_local[slot]) continue;
    const ExpertWeights& weights = source.weights(static_cast<int>(slot), slot_to_expert[slot]);
    check_expert(fmt::format("weights of slot {}", slot), weights, shape_, width);
    weights_[slot] = &weights;
  }
  counts_.assign(weights_.size(), 0);
}

void ExpertStage::permute(std::span<const std::int32_t> replica_ids, int num_tokens) {
  const auto is_local = [&](std::int32_t slot) {
    return slot >= 0 && static_cast<std::size_t>(slot) < weights_.size() &&
           weights_[static_cast<std::size_t>(slot)] != nullptr;
  };
  std::ranges::fill(counts_, std::size_t{0});
  for (const std::int32_t slot : replica_ids) {
    if (is_local(slot)) ++counts_[static_cast<std::size_t>(slot)];
  }
  active_.clear();
  std::size_t total = 0;
  for (std::size_t slot = 0; slot < counts_.size(); ++slot) {
    if (counts_[slot] == 0) continue;
    active_.push_back({static_cast<std::int32_t>(slot), total, total + counts_[slot]});
    total += std::exchange(counts_[slot], total);
  }
  rows_.resize(total);
  position_.resize(replica_ids.size());
  const auto topk = num_tokens == 0 ? 1 : replica_ids.size() / static_cast<std::size_t>(num_tokens);
  for (std::size_t i = 0; i < replica_ids.size(); ++i) {
    if (!is_local(replica_ids[i])) {
      position_[i] = -1;
      continue;
    }
    const std::size_t at = counts_[static_cast<std::size_t>(replica_ids[i])]++;
    rows_[at] = static_cast<std::int32_t>(i / topk);
    position_[i] = static_cast<std::int64_t>(at);
  }
}

void ExpertStage::run(std::span<const float> x) {
  y_.resize(rows_.size() * static_cast<std::size_t>(shape_.hidden));
  const std::size_t num_workers = std::min(workers_.size(), active_.size());
  if (num_workers == 1) {
    for (const ActiveSlot& active : active_) run_slot(active, x, workers_.front());
    return;
  }
  // Every worker takes each num_workers-th slot: what runs where does not depend on timing.
  for_each_parallel(num_workers, static_cast<int>(num_workers), [&](std::size_t w) {
    for (std::size_t i = w; i < active_.size(); i += num_workers) {
      run_slot(active_[i], x, workers_[w]);
    }
  });
}

void ExpertStage::run_slot(const ActiveSlot& active, std::span<const float> x, Worker& worker) {
  const auto hidden = static_cast<std::size_t>(shape_.hidden);
  const std::size_t rows = active.end - active.begin;
  worker.x.resize(rows * hidden);
  for (std::size_t i = 0; i < rows; ++i) {
    const auto row = static_cast<std::size_t>(rows_[active.begin + i]);
    std::copy_n(x.data() + row * hidden, hidden, worker.x.data() + i * hidden);
  }
  run_mlp(*worker.matmul, *weights_[static_cast<std::size_t>(active.slot)], worker.x.data(), rows,
          worker.mlp, y_.data() + active.begin * hidden);
}

void ExpertStage::combine(std::span<const float> weights, std::span<float> out) const {
  const auto hidden = static_cast<std::size_t>(shape_.hidden);
  const std::size_t tokens = out.size() / hidden;
  const std::size_t topk = tokens == 0 ? 0 : position_.size() / tokens;
  std::ranges::fill(out, 0.0F);
  for (std::size_t t = 0; t < tokens; ++t) {
    float* sum = out.data() + t * hidden;
    for (std::size_t i = t * topk; i < (t + 1) * topk; ++i) {
      if (position_[i] < 0) continue;
      const float* y = y_.data() + static_cast<std::size_t>(position_[i]) * hidden;
      for (std::size_t h = 0; h < hidden; ++h) sum[h] += weights[i] * y[h];
    }
  }
}

double ExpertStage::weight_bytes() const noexcept {
  double bytes = 0;
  for (const ActiveSlot& active : active_) {
    bytes += expert_bytes(*weights_[static_cast<std::size_t>(active.slot)]);
  }
  return bytes;
}

}  // namespace metro::ep
