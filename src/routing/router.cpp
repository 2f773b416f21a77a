// SPDX-License-Identifier: Apache-2.0
#include "metro/router.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "metro/error.hpp"
#include "routing/policies.hpp"

namespace metro {
namespace {

constexpr auto kPolicies = std::to_array<PolicyInfo>({
    {"even", "the i-th token of an expert goes to its replica i mod count", false,
     routing::make_even},
    {"hash", "replica by a hash of the token's row (vLLM)", false, routing::make_hash},
    {"round-robin", "replicas in turn within each source rank (TensorRT-LLM)", false,
     routing::make_round_robin},
    {"random", "a replica drawn uniformly, by seed (SGLang dynamic)", false, routing::make_random},
    {"static", "same GPU, else same node, else spread (SGLang static)", false,
     routing::make_static},
    {"single", "each expert's first replica, always", true, routing::make_single},
    {"home", "each expert's home replica, always: no replication", true, routing::make_home},
    {"shares", "replicas drawn by fixed weights that balance tokens", false, routing::make_shares},
    {"metro-paper", "greedy on activated experts, in expert order (the paper)", true,
     routing::make_metro_paper},
    {"metro", "greedy on activated experts, least choice first", true, routing::make_metro},
    {"optimal", "fewest activated experts on the busiest GPU, exactly", true,
     routing::make_optimal},
});

}  // namespace

std::span<const PolicyInfo> policies() { return kPolicies; }

const PolicyInfo* find_policy(std::string_view name) {
  const auto* found = std::ranges::find(kPolicies, name, &PolicyInfo::name);
  return found == kPolicies.end() ? nullptr : found;
}

Router::Router(const LayerPlacement& placement, std::string_view policy,
               const RouteOptions& options) {
  const PolicyInfo* info = find_policy(policy);
  if (info == nullptr) {
    std::string names;
    for (const PolicyInfo& known : kPolicies) {
      names += names.empty() ? "" : ", ";
      names += known.name;
    }
    throw Error(ErrorCode::kUsage, fmt::format("unknown policy '{}', known: {}", policy, names));
  }
  placement.validate();
  if (options.num_nodes < 1 || placement.num_gpus % options.num_nodes != 0) {
    throw Error(ErrorCode::kUsage, fmt::format("{} nodes do not divide {} GPUs", options.num_nodes,
                                               placement.num_gpus));
  }
  policy_ = info->make(placement, options);
}

}  // namespace metro
