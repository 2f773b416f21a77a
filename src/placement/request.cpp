// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cmath>

#include "metro/error.hpp"
#include "placement/algorithms.hpp"

namespace metro {
namespace {

void check_count(const char* field, int value, int max) {
  if (value < 1 || value > max) {
    throw Error(ErrorCode::kUsage, fmt::format("{} is {}, must be 1..{}", field, value, max));
  }
}

}  // namespace

int replicas_for(int num_experts, double replication, int num_gpus) {
  const double per_gpu = num_experts * replication / num_gpus;
  const double whole = std::round(per_gpu);
  // 160 * 1.1 is 176.00000000000003: a product that close to a whole number was meant to be it.
  const double slots = std::abs(per_gpu - whole) <= 1e-9 * whole ? whole : std::ceil(per_gpu);
  if (!(slots * num_gpus <= kMaxReplicas)) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} experts at replication {} on {} GPUs are more than {} replicas",
                            num_experts, replication, num_gpus, kMaxReplicas));
  }
  return static_cast<int>(slots) * num_gpus;
}

void check_request(std::span<const double> load, const PlacementRequest& request) {
  check_count("replicas", request.num_replicas, kMaxReplicas);
  check_count("gpus", request.num_gpus, kMaxGpus);
  check_count("groups", request.num_groups, kMaxExperts);
  check_count("nodes", request.num_nodes, kMaxGpus);
  if (load.empty() || load.size() > static_cast<std::size_t>(kMaxExperts)) {
    throw Error(ErrorCode::kInput,
                fmt::format("loads have {} experts, must be 1..{}", load.size(), kMaxExperts));
  }
  if (static_cast<std::size_t>(request.num_replicas) < load.size()) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} replicas cannot hold {} experts, every expert needs at least one",
                            request.num_replicas, load.size()));
  }
  if (request.num_replicas % request.num_gpus != 0) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} replicas cannot be shared out equally over {} GPUs, must be a "
                            "multiple of {}",
                            request.num_replicas, request.num_gpus, request.num_gpus));
  }
}

}  // namespace metro
