// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
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
  int shards = 1;  ///< GPUs that share each expert, beyond what the serving says

  [[nodiscard]] bool is_off() const noexcept {
    return replication == 1 && !tensor_sharded && shards == 1;
  }
  /// "EPLB off", "moe-TP", or placement + policy such as "homed+optimal"; on groups of 2 "s=2" and
  /// "s=2 homed+optimal".
  [[nodiscard]] std::string name() const;
};

/// What came of a candidate.
struct AdviceRow {
  AdviceCandidate candidate;
  std::string error;        ///< why it cannot be built; empty: `result` holds
  SimulationResult result;  ///< without a timeline
  bool eligible = false;  ///< completes as many requests, at the throughput, that the rule asks for
  double kv_share_lost = 0;          ///< of the KV cache that EPLB off has; below 0: it has more
  bool splits_scale_blocks = false;  ///< Deployment's; such a row is not eligible
  bool on_frontier = false;          ///< none has at most its mean TPOT and at least its throughput
};

struct AdviceOptions {
  std::vector<double> replication{1.125, 1.25, 1.5};  ///< each above 1
  /// GPUs that share an expert, each at least 2: those that divide the GPUs into two or more groups
  /// are tried, alone and with replicas. Not where the serving says `ep` or disaggregates.
  std::vector<int> shards{2, 4};
  double margin = 0.01;  ///< smaller gains are not worth a change
  int num_threads = 0;   ///< 0: one per core; results do not depend on it
};

/// How to start an engine as an advice says.
struct EngineLaunch {
  std::string engine;              ///< "vLLM", "SGLang", "TensorRT-LLM"
  std::string refusal;             ///< why it cannot run the advice; empty: it can
  std::optional<std::size_t> row;  ///< what `command` runs: the advice, or the best that it can
  std::string command;             ///< for a shell; MODEL is the checkpoint. Empty without a row
  std::vector<std::string> notes;  ///< what the command does not say
};

struct Advice {
  std::vector<AdviceRow> rows;  ///< EPLB off, moe-TP, each way of replicating by ratio, groups
  std::size_t off = 0;
  std::size_t chosen = 0;
  bool by_goodput = false;  ///< an SLO was given, and a candidate kept it
  std::array<std::string, 2> reasons;
  std::string note;                    ///< what makes the comparison unfair; empty: nothing known
  std::optional<EngineLaunch> launch;  ///< where the serving names one of its engines

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

/// The same requests on fewer GPUs.
struct FleetPoint {
  int gpus = 0;
  std::string error;       ///< why nothing can be built on them; empty: `row` holds
  AdviceRow row;           ///< the advice, or what keeps the SLO where that does not
  bool keeps_slo = false;  ///< for 90 % of the requests, all of which it completes
};

/// On the serving's GPUs, then on half as many, and so on while `tp` divides them: what `advise`
/// would choose there. The last point that keeps the SLO has the least GPUs of those tried. Throws
/// as `advise`; Error{kUsage} without an SLO, with `ep`, or where prefill has GPUs of its own.
std::vector<FleetPoint> smaller_fleets(
    const SimulationConfig& serving, const AdviceOptions& options = {},
    const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
