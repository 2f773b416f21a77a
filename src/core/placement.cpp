// SPDX-License-Identifier: Apache-2.0
#include "metro/placement.hpp"

#include <fmt/format.h>

#include <cmath>

#include "metro/error.hpp"

namespace metro {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kInput, message); }

void check_range(const char* field, std::size_t index, std::int64_t value, int end) {
  if (value < 0 || value >= end) {
    fail(fmt::format("{}[{}] is {}, must be 0..{}", field, index, value, end - 1));
  }
}

}  // namespace

void LayerPlacement::validate() const {
  if (num_experts < 1 || num_experts > kMaxExperts) {
    fail(fmt::format("num_experts is {}, must be 1..{}", num_experts, kMaxExperts));
  }
  if (num_gpus < 1 || num_gpus > kMaxGpus) {
    fail(fmt::format("num_gpus is {}, must be 1..{}", num_gpus, kMaxGpus));
  }
  const std::size_t replicas = replica_to_expert.size();
  if (replicas > static_cast<std::size_t>(kMaxReplicas)) {
    fail(fmt::format("replica_to_expert has {} slots, at most {} are supported", replicas,
                     kMaxReplicas));
  }
  if (replica_to_gpu.size() != replicas) {
    fail(fmt::format("replica_to_gpu has {} entries, replica_to_expert has {}",
                     replica_to_gpu.size(), replicas));
  }
  std::vector<bool> has_replica(static_cast<std::size_t>(num_experts), false);
  for (std::size_t slot = 0; slot < replicas; ++slot) {
    check_range("replica_to_expert", slot, replica_to_expert[slot], num_experts);
    check_range("replica_to_gpu", slot, replica_to_gpu[slot], num_gpus);
    has_replica[static_cast<std::size_t>(replica_to_expert[slot])] = true;
  }
  for (std::size_t e = 0; e < has_replica.size(); ++e) {
    if (!has_replica[e]) {
      fail(fmt::format("replica_to_expert has no replica of expert {}, every expert needs one", e));
    }
  }
  if (!home.empty()) {
    if (home.size() != has_replica.size()) {
      fail(fmt::format("home has {} entries, must have one per expert ({})", home.size(),
                       num_experts));
    }
    for (std::size_t e = 0; e < home.size(); ++e) {
      check_range("home", e, home[e], num_replicas());
      const std::int32_t held = replica_to_expert[static_cast<std::size_t>(home[e])];
      if (held != static_cast<std::int32_t>(e)) {
        fail(
            fmt::format("home[{}] is slot {}, which holds expert {}, not {}", e, home[e], held, e));
      }
    }
  }
  if (!shares.empty()) {
    if (shares.size() != replicas) {
      fail(fmt::format("shares has {} entries, must have one per slot ({})", shares.size(),
                       replicas));
    }
    std::vector<double> sum(has_replica.size(), 0.0);
    for (std::size_t slot = 0; slot < replicas; ++slot) {
      if (!std::isfinite(shares[slot]) || shares[slot] < 0) {
        fail(fmt::format("shares[{}] is {}, must be finite and >= 0", slot, shares[slot]));
      }
      sum[static_cast<std::size_t>(replica_to_expert[slot])] += shares[slot];
    }
    for (std::size_t e = 0; e < sum.size(); ++e) {
      if (!std::isfinite(sum[e]) || sum[e] <= 0) {
        fail(fmt::format("shares of expert {} sum to {}, must be finite and above 0", e, sum[e]));
      }
    }
  }
}

void Placement::validate() const {
  if (layers.empty()) fail("layers is empty, must have at least one layer");
  if (shards < 1 || (num_gpus >= 1 && shards > kMaxGpus / num_gpus)) {
    fail(fmt::format("shards is {}, must be 1..{} for {} groups: at most {} GPUs are supported",
                     shards, num_gpus >= 1 ? kMaxGpus / num_gpus : kMaxGpus, num_gpus, kMaxGpus));
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].num_experts != num_experts || layers[i].num_gpus != num_gpus) {
      fail(fmt::format("layers[{}] has {} experts on {} GPUs, the placement has {} on {}", i,
                       layers[i].num_experts, layers[i].num_gpus, num_experts, num_gpus));
    }
    try {
      layers[i].validate();
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("layers[{}].{}", i, error.what()));
    }
  }
}

std::vector<std::int32_t> contiguous_gpus(int num_replicas, int num_gpus) {
  if (num_gpus < 1 || num_replicas % num_gpus != 0) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} replicas cannot be shared out equally over {} GPUs", num_replicas,
                            num_gpus));
  }
  const int per_gpu = num_replicas / num_gpus;
  std::vector<std::int32_t> gpus(static_cast<std::size_t>(num_replicas));
  for (int slot = 0; slot < num_replicas; ++slot) {
    gpus[static_cast<std::size_t>(slot)] = slot / per_gpu;
  }
  return gpus;
}

}  // namespace metro
