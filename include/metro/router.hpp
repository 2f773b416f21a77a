// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro {

/// What a policy may depend on besides the batch and the placement. Equal on all ranks.
struct RouteOptions {
  std::uint64_t seed = 0;  ///< `random`
  int layer = 0;           ///< `random`
  int num_nodes = 1;       ///< `static`; GPUs per node = num_gpus / num_nodes
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

/// One row of the table of policies.
struct PolicyInfo {
  std::string_view name;
  std::string_view summary;     ///< one line, for help texts
  bool single_replica = false;  ///< each active expert is served by one replica
  std::unique_ptr<RoutingPolicy> (*make)(const LayerPlacement&, const RouteOptions&);
};

/// All policies, in the order of DESIGN.md.
std::span<const PolicyInfo> policies();

/// The policy of that name, or nullptr.
const PolicyInfo* find_policy(std::string_view name);

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

  /// Writes the replica (slot) of each (token, k). An id of -1, or any id that is not an expert,
  /// becomes -1. May be called in place. `replica_ids` is as long as `topk.ids`.
  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept {
    policy_->route(topk, replica_ids);
  }

 private:
  std::unique_ptr<RoutingPolicy> policy_;
};

}  // namespace metro
