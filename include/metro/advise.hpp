// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "metro/policy_names.hpp"
#include "metro/simulate.hpp"

namespace metro {

/// A way to serve the same requests on the same GPUs.
struct AdviceCandidate {
  double replication = 1;
  bool tensor_sharded = false;  ///< moe-TP: every expert over all GPUs, no replicas, no router
  std::string algorithm{kHomedAlgorithm};
  std::string policy{kHomePolicy};
  std::string prefill_policy{kHomePolicy};

  [[nodiscard]] bool is_off() const noexcept { return replication == 1 && !tensor_sharded; }
  /// "EPLB off", "moe-TP", or placement + policy such as "homed+optimal".
  [[nodiscard]] std::string name() const;
};

/// What came of a candidate.
struct AdviceRow {
  AdviceCandidate candidate;
  std::string error;        ///< why it cannot be built; empty: `result` holds
  SimulationResult result;  ///< without a timeline
  bool eligible = false;  ///< completes as many requests, at the throughput, that the rule asks for
  double kv_share_lost = 0;  ///< of the KV cache that EPLB off has; below 0: it has more
};

struct AdviceOptions {
  std::vector<double> replication{1.125, 1.25, 1.5};  ///< each above 1
  double margin = 0.01;                               ///< smaller gains are not worth a change
  int num_threads = 0;  ///< 0: one per core; results do not depend on it
};

struct Advice {
  std::vector<AdviceRow> rows;  ///< EPLB off, moe-TP, then each way of replicating by ratio
  std::size_t off = 0;
  std::size_t chosen = 0;
  bool by_goodput = false;  ///< an SLO was given, and a candidate kept it
  std::array<std::string, 2> reasons;
  std::string note;  ///< what makes the comparison unfair; empty: nothing known

  [[nodiscard]] const AdviceRow& choice() const noexcept { return rows[chosen]; }
  [[nodiscard]] bool replicate() const noexcept { return choice().candidate.replication > 1; }
};

/// Says whether to replicate experts, how much, with which placement and policy, or to shard them
/// instead: simulates every candidate on the same requests, seed and memory (replicas come out of
/// the KV cache) and chooses by the rule of docs/advise.md.
///
///     metro::Advice advice = metro::advise(config);
///
/// `serving` says everything but what an AdviceCandidate does. `progress(done, total)` counts
/// candidates, one at a time. Throws as `simulate`, Error{kInfeasible} when no candidate can be
/// built.
Advice advise(const SimulationConfig& serving, const AdviceOptions& options = {},
              const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
