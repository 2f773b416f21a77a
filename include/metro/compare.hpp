// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "metro/router.hpp"
#include "metro/trace.hpp"

namespace metro {

/// A policy that is in no table: a caller's own, for one comparison.
struct CustomPolicy {
  std::string name;  ///< in rows; no name of policies()
  /// Binds it to a layer's placement. Called from several threads, and so are its results, each
  /// by one thread at a time.
  std::function<std::unique_ptr<RoutingPolicy>(const LayerPlacement&, const RouteOptions&)> make;
};

/// A grid of what to compare on one trace: every combination of the lists.
struct CompareSpec {
  std::vector<std::string> algorithms{std::string(kEplbAlgorithm)};
  std::vector<int> gpus;
  /// GPUs that the experts are spread over, each expert sharded beyond: N form N groups of G / N,
  /// and a GPU holds 1 / (G / N) of its group's experts. Each divides each of `gpus`. Empty: all.
  std::vector<int> ep{};
  std::vector<double> replication;  ///< slots per expert, >= 1
  std::vector<int> tokens;          ///< of the global batch, or per GPU, see below
  bool tokens_are_per_gpu = false;
  std::vector<std::string> policies;  ///< names of policies(), or of `custom`
  std::vector<CustomPolicy> custom{};
  int batches = 32;
  std::uint64_t seed = 0;
  /// What a replica costs as a GPU holds it (a shard, where experts are sharded): `hybrid` routes
  /// by it, and rows are priced. Null: ExpertCost::standard for `hybrid`, and no price.
  std::shared_ptr<const ExpertCost> cost = nullptr;
  int num_threads = 0;  ///< 0: one per core. The result does not depend on it.

  /// Throws Error{kUsage} for what is wrong whatever the trace: an unknown name, a value out of its
  /// range, an `ep` that does not divide one of `gpus`.
  void validate() const;
};

/// One policy at one point of the grid; means are over all batches and layers.
struct CompareRow {
  std::string algorithm;
  int gpus = 0;
  int ep = 0;  ///< groups of gpus / ep that the policy sees as its GPUs; `gpus` without sharding
  double replication = 0;
  int replicas = 0;  ///< ceil(experts * replication / ep) * ep
  int tokens = 0;    ///< of the global batch
  std::string policy;
  /// Mean of the busiest GPU's activated replicas, in experts' worth of bytes: a shard of 1 / s
  /// counts 1 / s.
  double max_activated = 0;
  double max_tokens = 0;       ///< mean of the busiest GPU's (token, k) assignments
  double activated_total = 0;  ///< mean of the activated replicas of all groups, as max_activated
  double active_experts = 0;   ///< mean of the distinct experts in the batch
  double no_replication = 0;   ///< mean max activated where every GPU holds E/G whole experts
  double token_imbalance = 0;  ///< max_tokens over the mean assignments per group
  double vs_even = 1;          ///< ratios of the means of max activated: 0.67 = a third fewer
  double vs_no_replication = 1;
  double vs_optimal = 1;
  double vs_ep = 1;                  ///< over the same policy and replication without sharding
  std::int64_t worse_than_none = 0;  ///< (batch, layer) pairs above EPLB off
  double modelled_us = 0;            ///< mean time of the slowest GPU; 0 where the spec has no cost
  double modelled_bound_us = 0;      ///< mean of the times that no routing can get below
};

/// Replays decode batches of a trace under every policy of the grid.
///
/// Placements come from the loads of the first half of the trace, batches (DecodeBatches) from the
/// second, the same ones for all rows of a size. *EPLB off* is the same algorithm with one
/// slot per expert and no sharding; where the GPUs do not divide the experts, with the few slots
/// that fill up the GPUs left idle. `even` and `optimal` are run even when they are not asked for.
///
/// Rows are in the order algorithms, gpus, ep, replication, tokens, policies. `progress(done,
/// total)` is called now and then, by one thread at a time. Throws Error{kUsage} for an unknown
/// name or a value out of range, Error{kInfeasible} for a placement that cannot be built, for
/// replicas in a single group, and for a batch that the second half cannot fill.
std::vector<CompareRow> compare(const RoutingTrace& trace, const CompareSpec& spec,
                                const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
