// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

#include "metro/expert_cost.hpp"
#include "metro/placement.hpp"
#include "metro/policy_names.hpp"
#include "metro/topk.hpp"

namespace metro {

/// What a policy may depend on besides the batch and the placement. Equal on all ranks.
struct RouteOptions {
  std::uint64_t seed = 0;  ///< `random`
  int layer = 0;           ///< `random`
  int num_nodes = 1;       ///< `static`; GPUs per node = num_gpus / num_nodes
  /// `hybrid`; null: ExpertCost::standard
  std::shared_ptr<const ExpertCost> cost = nullptr;
};

/// A routing policy bound to one layer's placement; owns its workspace.
class RoutingPolicy {
 public:
  virtual ~RoutingPolicy() = default;
  RoutingPolicy() = default;
  RoutingPolicy(const RoutingPolicy&) = delete;
  RoutingPolicy& operator=(const RoutingPolicy&) = delete;

  /// See Router::route.
  virtual void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept = 0;
};

/// What a rank must know of a batch to choose the replicas of its own tokens.
enum class PolicyNeeds : std::uint8_t {
  /// The rows of its tokens, with their places in the global batch: no exchange.
  kOwnRows,
  /// Which experts the tokens of all ranks activate: one bit an expert from every rank.
  kBitmap,
  /// The expert ids of all ranks' tokens, in rank order. Always enough.
  kIds
};

/// "own-rows", "bitmap" or "ids": what results and `metro policies` call it.
[[nodiscard]] std::string_view to_string(PolicyNeeds needs) noexcept;

/// Everything that this program knows of a policy: one row of its only table (docs/policies.md).
///
/// An aggregate of facts, each of them checked against what the policy does. Whoever needs to know
/// something of a policy reads it here, so that a new row is known everywhere.
struct PolicyInfo {
  /// What `--policy`, files and Router call it.
  std::string_view name;
  /// How it chooses, in one line.
  std::string_view rule;
  /// Who routes so: an engine, a paper, or this library.
  std::string_view source;
  /// What ranks must tell each other where tokens are sent to their experts (all-to-all). Where
  /// every rank has all tokens (all-gather) the answer is there for nothing.
  PolicyNeeds needs = PolicyNeeds::kIds;
  /// The choice for a token depends on how many tokens of its expert come before it: in the batch
  /// (kIds), or among those of its source rank (kOwnRows).
  bool counts_tokens = false;
  /// Each active expert is served by one replica: the batch activates no expert twice.
  bool single_replica = false;
  /// The choice depends on LayerPlacement::home.
  bool uses_homes = false;
  /// The choice depends on LayerPlacement::shares.
  bool uses_shares = false;
  /// The choice depends on RouteOptions::cost.
  bool uses_cost = false;
  /// cuda::Router has it, with the same answers bit for bit.
  bool device = false;
  /// Pages and benches that have room for a few policies show it.
  bool headline = false;
  /// Microseconds of one layer's call where no calibration says better: our kernel on an H100, 256
  /// experts on 16 GPUs, 256 tokens. Policies without a kernel choose by token alone, as `hash`
  /// does, or take a fixed slot, as `home` does, and are priced as those.
  double route_us = 0;
  /// The policy whose time in a calibration is this one's, if the calibration has none of its own.
  std::string_view calibration_key;
  /// Binds it to a layer's placement, which must be valid. The result copies what it needs.
  std::unique_ptr<RoutingPolicy> (*make)(const LayerPlacement&, const RouteOptions&) = nullptr;

  /// Tokens of one expert may go to several of its replicas, each of which is then activated.
  [[nodiscard]] constexpr bool splits() const noexcept { return !single_replica; }
};

/// All policies: baselines first, then by how much they know of the batch.
std::span<const PolicyInfo> policies();

/// The policy of that name, or nullptr.
const PolicyInfo* find_policy(std::string_view name);

/// The policy of that name. Throws Error{kUsage}, which names those that there are.
const PolicyInfo& require_policy(std::string_view name);

/// Chooses which replica serves each (token, k) of one MoE layer.
///
///     metro::Router router(placement, "optimal");
///     router.route(topk, replica_ids);  // replica_ids.size() == topk.ids.size()
///
/// Deterministic: the same batch, placement and options give the same ids on every rank and in
/// every run. Owns its workspace, so `route` never allocates. One thread at a time; any number of
/// routers.
class Router {
 public:
  /// Throws Error{kInput} for an invalid placement, Error{kUsage} for an unknown policy or a number
  /// of nodes that does not divide the GPUs.
  Router(const LayerPlacement& placement, std::string_view policy,
         const RouteOptions& options = {});
  /// A router of a policy that is in no table, a caller's own; not null.
  explicit Router(std::unique_ptr<RoutingPolicy> policy) noexcept : policy_(std::move(policy)) {}

  /// Writes the replica (slot) of each (token, k). An id of -1, or any id that is not an expert,
  /// becomes -1. May be called in place. `replica_ids` is as long as `topk.ids`.
  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept {
    policy_->route(topk, replica_ids);
  }

 private:
  std::unique_ptr<RoutingPolicy> policy_;
};

}  // namespace metro
