// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/rng.hpp"
#include "layer_bench/random_experts.hpp"
#include "metro/ep/local_transport.hpp"
#include "metro/ep/moe_layer.hpp"
#include "support/random_instance.hpp"

namespace metro::test {

/// A layer's ranks, their tokens and the placements of the steps that they run.
struct MoeCase {
  ep::LayerShape shape;
  ep::LayerOptions options{};
  std::vector<int> tokens{};  ///< [ranks]
  std::vector<int> valid{};   ///< [ranks]; empty: all
  std::vector<LayerPlacement> steps{};
  std::uint64_t seed = 1;
  std::uint64_t weight_seed = 0;
  int threads = 1;

  [[nodiscard]] int num_ranks() const { return static_cast<int>(tokens.size()); }
  [[nodiscard]] int first_row(int rank) const {
    return std::accumulate(tokens.begin(), tokens.begin() + rank, 0);
  }
  [[nodiscard]] int num_tokens() const { return first_row(num_ranks()); }
};

/// What all ranks did in the last step.
struct MoeOutcome {
  std::vector<float> out;                 ///< of the global batch, [tokens][hidden]
  std::vector<std::int32_t> replica_ids;  ///< [tokens][topk]
  std::vector<ep::LayerRun> runs;         ///< [ranks]
};

inline std::vector<float> random_tokens(int count, int hidden, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<std::size_t>(count) * static_cast<std::size_t>(hidden));
  for (float& value : x) value = static_cast<float>(4 * rng.uniform() - 2);
  return x;
}

/// One rank's part of a case, over any transport.
inline void run_rank(const MoeCase& test, const std::vector<float>& x,
                     const std::vector<std::int32_t>& expert_ids, ep::Transport& transport,
                     MoeOutcome& outcome) {
  using ep::ExpertSharding;
  const int rank = transport.rank();
  const bool is_sharded = test.options.sharding == ExpertSharding::kTensorSharded;
  const ep::Shard shard =
      is_sharded
          ? ep::shard_of(test.shape.intermediate, rank, transport.size())
          : ep::shard_of(test.shape.intermediate, rank % test.options.shards, test.options.shards);
  layer_bench::RandomExperts weights(test.shape, shard, test.weight_seed);
  const layer_bench::RandomDense dense(test.shape, test.weight_seed);
  ep::MoeLayer layer(test.shape, test.steps.front(), test.options, {"", test.threads}, dense.view(),
                     weights, transport);
  const auto at = [&](int row, int width) {
    return static_cast<std::size_t>(row) * static_cast<std::size_t>(width);
  };
  const auto r = static_cast<std::size_t>(rank);
  const int first = test.first_row(rank);
  const std::size_t begin = at(first, test.shape.hidden);
  const std::size_t size = at(test.tokens[r], test.shape.hidden);
  ep::TokenBatch batch{.x = std::span(x).subspan(begin, size), .num_tokens = test.tokens[r]};
  if (!test.valid.empty()) batch.num_valid = test.valid[r];
  const bool is_gathered = test.options.dispatch == ep::Dispatch::kAllGather;
  if (!expert_ids.empty()) {
    batch.expert_ids =
        is_gathered ? std::span(expert_ids)
                    : std::span(expert_ids)
                          .subspan(at(first, test.shape.topk), at(test.tokens[r], test.shape.topk));
  }
  for (std::size_t step = 0; step < test.steps.size(); ++step) {
    if (step > 0) layer.set_placement(test.steps[step]);
    outcome.runs[r] = layer.forward(batch, std::span(outcome.out).subspan(begin, size));
  }
  const auto ids = layer.replica_ids();
  if (is_gathered ? rank == 0 : true) {
    std::ranges::copy(
        ids, outcome.replica_ids.begin() +
                 static_cast<std::ptrdiff_t>(is_gathered ? 0 : at(first, test.shape.topk)));
  }
}

/// Runs a case on threads. `expert_ids` [tokens][topk] replaces the gate's choice, unless empty.
inline MoeOutcome run_ranks(const MoeCase& test, const std::vector<float>& x,
                            const std::vector<std::int32_t>& expert_ids = {}) {
  MoeOutcome outcome;
  outcome.out.resize(x.size());
  outcome.replica_ids.resize(static_cast<std::size_t>(test.num_tokens()) *
                             static_cast<std::size_t>(test.shape.topk));
  outcome.runs.resize(test.tokens.size());
  ep::run_local_ranks(test.num_ranks(), 30, [&](ep::Transport& transport) {
    run_rank(test, x, expert_ids, transport, outcome);
  });
  return outcome;
}

}  // namespace metro::test
